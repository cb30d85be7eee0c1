//! Notes mistakes while a tree is read, and hands out the fields of its maps.
//!
//! A reader never stops: what is missing or wrong is noted, and a placeholder goes on, since an app with errors is
//! thrown away anyway.

use model::{Code, Limits, code};

use crate::{
    diagnostic::{Diagnostic, MAX_DIAGNOSTICS, Severity},
    nearest::nearest,
    tree::{Bytes, Key, Node, Value},
};

/// The text, the limits, and what was noted so far.
pub(crate) struct Reader<'t> {
    text: &'t str,
    limits: Limits,
    noted: Vec<Diagnostic>,
    dropped: Diagnostic,
}

/// The diagnostic that was noted last, to say more about it.
pub(crate) struct Noted<'r>(&'r mut Diagnostic);

/// The entries of a map whose keys were checked.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'n> {
    /// Where to point when something is missing.
    pub(crate) at: Bytes,
    entries: &'n [(Key, Node)],
}

impl<'t> Reader<'t> {
    pub(crate) fn new(text: &'t str, file_name: &str, limits: Limits) -> Self {
        let dropped = Diagnostic {
            severity: Severity::Error,
            file: file_name.into(),
            code: code::MANIFEST_INVALID,
            message: String::new(),
            expected: None,
            help: None,
            span: Bytes::default().span(text),
        };
        Self {
            text,
            limits,
            noted: Vec::new(),
            dropped,
        }
    }

    pub(crate) fn text(&self) -> &'t str {
        self.text
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The text of a plain scalar as it was written.
    pub(crate) fn raw(&self, node: &Node) -> &'t str {
        node.source.span(self.text).slice(self.text).trim()
    }

    pub(crate) fn error(&mut self, at: Bytes, message: impl Into<String>) -> Noted<'_> {
        self.note(Severity::Error, code::MANIFEST_INVALID, at, message.into())
    }

    pub(crate) fn warning(&mut self, at: Bytes, message: impl Into<String>) -> Noted<'_> {
        self.warning_of(code::MANIFEST_SUSPICIOUS, at, message)
    }

    /// A warning with a code of its own, by which a command can tell it from others.
    pub(crate) fn warning_of(
        &mut self,
        code: Code,
        at: Bytes,
        message: impl Into<String>,
    ) -> Noted<'_> {
        self.note(Severity::Warning, code, at, message.into())
    }

    fn note(&mut self, severity: Severity, code: Code, at: Bytes, message: String) -> Noted<'_> {
        if self.noted.len() >= MAX_DIAGNOSTICS {
            return Noted(&mut self.dropped);
        }
        self.noted.push(Diagnostic {
            severity,
            file: self.dropped.file.clone(),
            code,
            message: one_line(message),
            expected: None,
            help: None,
            span: at.span(self.text),
        });
        Noted(self.noted.last_mut().expect("one was just pushed"))
    }

    /// What was noted, in the order of the file.
    pub(crate) fn finish(self) -> Vec<Diagnostic> {
        let mut noted = self.noted;
        noted.sort_by_key(|diagnostic| (diagnostic.span.start, diagnostic.severity as u8));
        noted
    }

    /// The fields of a map that may have only `keys`; `owner` is where to point when something is missing.
    pub(crate) fn fields<'n>(
        &mut self,
        node: &'n Node,
        owner: Bytes,
        keys: &[&str],
    ) -> Option<Fields<'n>> {
        self.fields_around(node, owner, keys, &[])
    }

    /// The same where keys have keys of their own, which are easily written one level too high.
    pub(crate) fn fields_around<'n>(
        &mut self,
        node: &'n Node,
        owner: Bytes,
        keys: &[&str],
        inner: &[(&str, &[&str])],
    ) -> Option<Fields<'n>> {
        let Value::Map(entries) = &node.value else {
            let expected = format!("expected a map with {}", listed(keys));
            self.wrong(node, &expected);
            return None;
        };
        for (key, _) in entries {
            if !keys.contains(&key.text.as_str()) {
                self.unknown_key(key, keys, inner);
            }
        }
        Some(Fields { at: owner, entries })
    }

    fn unknown_key(&mut self, key: &Key, keys: &[&str], inner: &[(&str, &[&str])]) {
        let run_here = |word: &&str| !crate::app::LATER.contains(word);
        let keys: Vec<&str> = keys.iter().copied().filter(run_here).collect();
        let mut inner = inner.iter();
        let around = inner.find(|(_, keys)| keys.contains(&key.text.as_str()));
        let meant = match around {
            Some((around, _)) => Some(format!("it belongs inside `{around}`")),
            None => nearest(&key.text, keys.iter().copied())
                .map(|meant| format!("did you mean `{meant}`?")),
        };
        let noted = self.error(key.at, format!("unknown key `{}`", shown(&key.text)));
        let noted = match meant {
            Some(meant) => noted.expected(meant),
            None => noted,
        };
        noted.help(format!("the keys here are {}", listed(&keys)));
    }

    /// Any map, its keys being names that users give.
    pub(crate) fn entries<'n>(&mut self, node: &'n Node, of: &str) -> &'n [(Key, Node)] {
        match &node.value {
            Value::Map(entries) => entries,
            _ => {
                self.wrong(node, &format!("expected a map of {of}"));
                &[]
            }
        }
    }

    /// A list.
    pub(crate) fn list<'n>(&mut self, node: &'n Node, of: &str) -> &'n [Node] {
        match &node.value {
            Value::List(items) => items,
            _ => {
                let raw = shown(self.raw(node));
                let scalar = !matches!(node.value, Value::Map(_) | Value::Null);
                let noted = self.error(node.at, format!("expected a list of {of}"));
                if scalar {
                    noted.expected(format!("write it as a list: `[{raw}]`"));
                }
                &[]
            }
        }
    }

    /// Notes that a value is not what was `expected`.
    pub(crate) fn wrong(&mut self, node: &Node, expected: &str) -> Noted<'_> {
        let found = match &node.value {
            Value::Null => "nothing",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::Text(_) => "a text",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        };
        self.error(node.at, format!("{expected}, found {found}"))
    }

    /// Notes a word that is none of `words`, with the nearest.
    pub(crate) fn unknown_word<'w>(
        &mut self,
        at: Bytes,
        message: String,
        word: &str,
        words: impl Iterator<Item = &'w str> + Clone,
    ) {
        let meant = nearest(word, words.clone()).map(|meant| format!("did you mean `{meant}`?"));
        let known: Vec<_> = words.take(12).collect();
        let mut noted = self.error(at, message);
        if let Some(meant) = meant {
            noted = noted.expected(meant);
        }
        if !known.is_empty() {
            noted.help(format!("expected {}", listed(&known)));
        }
    }
}

impl<'n> Fields<'n> {
    /// The value of `key`, if it is there and says something.
    pub(crate) fn get(&self, key: &str) -> Option<&'n Node> {
        self.entry(key)
            .map(|(_, node)| node)
            .filter(|node| !matches!(node.value, Value::Null))
    }

    /// The entry of `key`, also when it is empty.
    pub(crate) fn entry(&self, key: &str) -> Option<&'n (Key, Node)> {
        self.entries.iter().find(|(k, _)| k.text == key)
    }

    pub(crate) fn entries(&self) -> &'n [(Key, Node)] {
        self.entries
    }

    /// The value of `key`, which must be there.
    pub(crate) fn required(
        &self,
        reader: &mut Reader<'_>,
        key: &str,
        example: &str,
    ) -> Option<&'n Node> {
        let found = self.get(key);
        if found.is_none() {
            reader
                .error(self.at, format!("`{key}` is missing"))
                .help(format!("for example `{example}`"));
        }
        found
    }
}

impl Noted<'_> {
    /// What belongs at the marked place.
    pub(crate) fn expected(self, expected: impl Into<String>) -> Self {
        self.0.expected = Some(one_line(expected.into()));
        self
    }

    /// What to do about it.
    pub(crate) fn help(self, help: impl Into<String>) {
        self.0.help = Some(help.into()).filter(|help| !help.is_empty());
    }
}

/// `` `a`, `b` or `c` ``.
pub(crate) fn listed(words: &[&str]) -> String {
    match words {
        [] => "none".to_owned(),
        [only] => format!("`{only}`"),
        [first @ .., last] => {
            let first: Vec<_> = first.iter().map(|word| format!("`{word}`")).collect();
            format!("{} or `{last}`", first.join(", "))
        }
    }
}

/// A message that quotes what a user wrote, with its line ends and other control characters written out.
fn one_line(message: String) -> String {
    if !message.contains(char::is_control) {
        return message;
    }
    let mut line = String::with_capacity(message.len());
    for c in message.chars() {
        match c.is_control() {
            true => line.extend(c.escape_default()),
            false => line.push(c),
        }
    }
    line
}

/// What a user wrote, fit for one line of a message.
pub(crate) fn shown(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let cut: String = line.chars().filter(|c| !c.is_control()).take(80).collect();
    if cut.len() < text.len() {
        format!("{cut}…")
    } else {
        cut
    }
}
