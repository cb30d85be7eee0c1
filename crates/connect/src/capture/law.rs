//! What holds for every bytes that are read as a message of `pgoutput`, as a function that the fuzz target calls (`cargo
//! xtask fuzz`) and a test replays the corpus with. Not for anything else: it panics when the law does not hold.

use super::pgoutput::{Message, Old, Relation, Value, decode};

/// What is read is all of the bytes and nothing else: written again, it is the same.
///
/// # Panics
/// When it does not hold.
pub fn law(bytes: &[u8]) {
    if let Ok(message) = decode(bytes) {
        assert_eq!(encode(&message), bytes, "{message:?}");
    }
}

fn encode(message: &Message) -> Vec<u8> {
    let mut out = Vec::new();
    match message {
        Message::Begin {
            commit,
            at,
            transaction,
        } => {
            out.push(b'B');
            out.extend(commit.0.to_be_bytes());
            out.extend(at.to_be_bytes());
            out.extend(transaction.to_be_bytes());
        }
        Message::Commit {
            flags,
            commit,
            end,
            at,
        } => {
            out.extend([b'C', *flags]);
            out.extend(commit.0.to_be_bytes());
            out.extend(end.0.to_be_bytes());
            out.extend(at.to_be_bytes());
        }
        Message::Origin { commit, name } => {
            out.push(b'O');
            out.extend(commit.0.to_be_bytes());
            text(&mut out, name);
        }
        Message::Relation(relation) => describe(&mut out, relation),
        Message::Type { id, schema, name } => {
            out.push(b'Y');
            out.extend(id.to_be_bytes());
            text(&mut out, schema);
            text(&mut out, name);
        }
        Message::Insert { relation, new } => {
            out.push(b'I');
            out.extend(relation.to_be_bytes());
            row(&mut out, b'N', new);
        }
        Message::Update { relation, old, new } => {
            out.push(b'U');
            out.extend(relation.to_be_bytes());
            old.iter().for_each(|old| old_row(&mut out, old));
            row(&mut out, b'N', new);
        }
        Message::Delete { relation, old } => {
            out.push(b'D');
            out.extend(relation.to_be_bytes());
            old_row(&mut out, old);
        }
        Message::Truncate { options, relations } => {
            out.push(b'T');
            out.extend(
                u32::try_from(relations.len())
                    .expect("it was read")
                    .to_be_bytes(),
            );
            out.push(*options);
            relations
                .iter()
                .for_each(|one| out.extend(one.to_be_bytes()));
        }
    }
    out
}

fn describe(out: &mut Vec<u8>, relation: &Relation) {
    out.push(b'R');
    out.extend(relation.id.to_be_bytes());
    text(out, &relation.schema);
    text(out, &relation.name);
    out.push(relation.identity);
    count(out, relation.columns.len());
    for column in &relation.columns {
        out.push(column.flags);
        text(out, &column.name);
        out.extend(column.kind.to_be_bytes());
        out.extend(column.modifier.to_be_bytes());
    }
}

fn old_row(out: &mut Vec<u8>, old: &Old) {
    match old {
        Old::Key(values) => row(out, b'K', values),
        Old::Row(values) => row(out, b'O', values),
    }
}

fn row(out: &mut Vec<u8>, letter: u8, values: &[Value]) {
    out.push(letter);
    count(out, values.len());
    for value in values {
        let (letter, bytes) = match value {
            Value::Null => {
                out.push(b'n');
                continue;
            }
            Value::Unchanged => {
                out.push(b'u');
                continue;
            }
            Value::Text(text) => (b't', text.as_bytes()),
            Value::Binary(bytes) => (b'b', bytes.as_slice()),
        };
        out.push(letter);
        out.extend(
            u32::try_from(bytes.len())
                .expect("it was read")
                .to_be_bytes(),
        );
        out.extend(bytes);
    }
}

fn count(out: &mut Vec<u8>, count: usize) {
    out.extend(u16::try_from(count).expect("it was read").to_be_bytes());
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend(text.as_bytes());
    out.push(0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corpus_keeps_the_law() {
        testkit::replay("pgoutput", law);
    }
}
