//! What holds of every record, whatever is in it: it is an event that may be published and that survives being written,
//! or it says why not.

use model::outside::KafkaMode;

use super::binding::{Message, Place, Told, read, write};

/// Holds a made-up record to the law: lines `name: value` are its headers, then an empty line, then its value.
///
/// # Panics
/// When it does not hold.
pub fn law(bytes: &[u8]) {
    let (head, value) = match bytes.windows(2).position(|two| two == b"\n\n") {
        Some(at) => (&bytes[..at], Some(bytes[at + 2..].to_vec())),
        None => (bytes, None),
    };
    let lines = head.split(|byte| *byte == b'\n');
    let headers = lines.filter_map(|line| {
        let at = line.iter().position(|byte| *byte == b':')?;
        let name = String::from_utf8(line[..at].to_vec()).ok()?;
        Some((name, line[at + 1..].trim_ascii().to_vec()))
    });
    let message = Message {
        key: Some(head.to_vec()),
        value,
        headers: headers.collect(),
        time: None,
    };
    let place = Place {
        bridge: "b",
        topic: "t",
        partition: 0,
        offset: 0,
    };
    let Ok(relayed) = read(&message, place, Some("t.t")) else {
        return;
    };
    let event = relayed.event;
    event.check().expect("what is read may be published");
    let structured = write(&event, KafkaMode::Structured, Told::default());
    let back = read(&structured, place, None).expect("what is written can be read");
    assert_eq!(back.event, event);
    let binary = write(&event, KafkaMode::Binary, Told::default());
    let back = read(&binary, place, None).expect("what is written can be read");
    let back = back.event;
    assert_eq!(
        (back.id, back.source, back.kind, back.subject, back.schema),
        (
            event.id,
            event.source,
            event.kind,
            event.subject,
            event.schema
        )
    );
}
