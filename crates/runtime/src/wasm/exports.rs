//! What a component exports, read from its bytes before anything compiles them. Knows no wasmtime.

use wasmparser::{Chunk, Parser, Payload};

/// The names that a component exports; of one that is malformed, those before the fault. What it contains is skipped,
/// so that the depth of its nesting costs nothing.
pub(super) fn exported(bytes: &[u8]) -> Vec<&str> {
    let mut names = Vec::new();
    let (mut parser, mut at) = (Parser::new(0), 0);
    while let Some(rest) = bytes.get(at..)
        && let Ok(Chunk::Parsed { consumed, payload }) = parser.parse(rest, true)
    {
        at += consumed;
        match payload {
            Payload::ModuleSection {
                unchecked_range, ..
            }
            | Payload::ComponentSection {
                unchecked_range, ..
            } => at = at.max(unchecked_range.end),
            Payload::ComponentExportSection(section) => {
                let exports = section.into_iter().map_while(Result::ok);
                names.extend(exports.map(|export| export.name.name));
            }
            Payload::End(_) => break,
            _ => {}
        }
    }
    names
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A component that exports an instance under each name, after a nested component that exports `inner`.
    pub(in crate::wasm) fn component(inner: &[&str], names: &[&str]) -> Vec<u8> {
        let mut bytes = b"\0asm\x0d\0\x01\0".to_vec();
        if !inner.is_empty() {
            section(&mut bytes, 4, &component(&[], inner));
        }
        let mut exports = vec![u8::try_from(names.len()).expect("few")];
        for name in names {
            exports.push(0);
            exports.push(u8::try_from(name.len()).expect("short"));
            exports.extend(name.as_bytes());
            // An instance, the first, without a type.
            exports.extend([5, 0, 0]);
        }
        section(&mut bytes, 11, &exports);
        bytes
    }

    fn section(bytes: &mut Vec<u8>, id: u8, content: &[u8]) {
        bytes.push(id);
        let mut length = content.len();
        while length >= 0x80 {
            bytes.push(u8::try_from(length & 0x7f).expect("seven bits") | 0x80);
            length >>= 7;
        }
        bytes.push(u8::try_from(length).expect("seven bits"));
        bytes.extend(content);
    }

    #[test]
    fn what_is_inside_does_not_count() {
        let bytes = component(&["inner"], &["own", "other"]);
        assert_eq!(exported(&bytes), ["own", "other"]);
        // The whole of a deep nest is one section.
        let mut deep = component(&[], &["inner"]);
        for _ in 0..10_000 {
            let mut outer = b"\0asm\x0d\0\x01\0".to_vec();
            section(&mut outer, 4, &deep);
            deep = outer;
        }
        assert_eq!(exported(&deep), Vec::<&str>::new());
    }
}
