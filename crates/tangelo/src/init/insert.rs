//! Entries put into a manifest that somebody else wrote: whole lines are inserted, and not a byte of what was there is changed. What
//! came out is read again; unless it is the app that was there with exactly the new entries, it is not used.

use std::ops::Range;

use model::{App, Limits};

/// Entries of a manifest, each with a line end and not indented.
#[derive(Debug, Default)]
pub(super) struct Addition {
    /// `NAME:` and what is below.
    pub(super) workloads: Vec<String>,
    /// `- {…}`.
    pub(super) routes: Vec<String>,
}

impl Addition {
    pub(super) fn is_empty(&self) -> bool {
        self.workloads.is_empty() && self.routes.is_empty()
    }

    /// The manifest `text`, which is `app`, with the entries in it. `None`: it is written in a way that has no lines to put them
    /// between.
    pub(super) fn added_to(&self, text: &str, app: &App) -> Option<String> {
        let mut lines = Lines::of(text);
        // From below, so that places further up stay where they are.
        if !self.routes.is_empty() {
            self.add_routes(&mut lines)?;
        }
        if !self.workloads.is_empty() {
            let block = lines.block("workloads", 0..lines.all.len(), 0)?;
            self.add_workloads(&mut lines, block)?;
        }
        let made = lines.text();
        self.is_added(&made, app).then_some(made)
    }

    fn add_workloads(&self, lines: &mut Lines, block: Range<usize>) -> Option<()> {
        let indent = lines.indent_in(block.clone())?;
        let mut at = lines.end_of(block);
        for entry in &self.workloads {
            // Apart from what is before, as entries of several lines mostly are.
            lines.all.insert(at, String::new());
            let entry = indented(entry, &indent);
            let new: Vec<String> = entry.lines().map(str::to_owned).collect();
            let count = new.len();
            lines.all.splice(at + 1..at + 1, new);
            at += 1 + count;
        }
        Some(())
    }

    fn add_routes(&self, lines: &mut Lines) -> Option<()> {
        if !lines.has("gateway") {
            let end = lines.end_of(0..lines.all.len());
            let mut new = vec![String::new(), "gateway:".to_owned(), "  routes:".to_owned()];
            let routes = self.routes.iter().map(|route| indented(route, "    "));
            new.extend(routes.map(|route| route.trim_end().to_owned()));
            lines.all.splice(end..end, new);
            return Some(());
        }
        let gateway = lines.block("gateway", 0..lines.all.len(), 0)?;
        let indent = lines.indent_in(gateway.clone())?;
        let routes = lines.block("routes", gateway, indent.len())?;
        let indent = lines.indent_in(routes.clone())?;
        let end = lines.end_of(routes);
        let new = self.routes.iter().map(|route| indented(route, &indent));
        let new: Vec<String> = new.map(|route| route.trim_end().to_owned()).collect();
        lines.all.splice(end..end, new);
        Some(())
    }

    /// Whether `made` is `app` with these entries and nothing else.
    fn is_added(&self, made: &str, app: &App) -> bool {
        let parsed = manifest::parse(made, manifest::FILE_NAME, &Limits::default());
        let Some(mut found) = parsed.app else {
            return false;
        };
        for entry in &self.workloads {
            let name = entry.split(':').next().unwrap_or_default();
            if app.workloads.contains_key(name) || found.workloads.remove(name).is_none() {
                return false;
            }
        }
        let kept = found.routes.len().checked_sub(self.routes.len());
        kept.inspect(|kept| found.routes.truncate(*kept)).is_some() && found == *app
    }

    /// The entries as somebody is to add them.
    pub(super) fn shown(&self) -> String {
        let mut shown = String::new();
        let mut below = |head: &str, entries: &[String], indent: &str| {
            if !entries.is_empty() {
                shown.push_str(head);
                shown.extend(entries.iter().map(|entry| indented(entry, indent)));
            }
        };
        below("workloads:\n", &self.workloads, "  ");
        below("gateway:\n  routes:\n", &self.routes, "    ");
        shown
    }
}

/// Each line of `text` further in.
pub(super) fn indented(text: &str, indent: &str) -> String {
    text.lines()
        .map(|line| format!("{indent}{line}\n"))
        .collect()
}

/// A text as lines without their ends.
struct Lines {
    all: Vec<String>,
    end: &'static str,
}

impl Lines {
    fn of(text: &str) -> Self {
        let end = if text.contains("\r\n") { "\r\n" } else { "\n" };
        let mut all: Vec<String> = text.split(end).map(str::to_owned).collect();
        if all.last().is_some_and(String::is_empty) {
            all.pop();
        }
        Self { all, end }
    }

    fn text(&self) -> String {
        self.all
            .iter()
            .flat_map(|line| [line.as_str(), self.end])
            .collect()
    }

    /// Whether a key stands at the left.
    fn has(&self, key: &str) -> bool {
        let is_key = |line: &String| {
            let rest = line.strip_prefix(key);
            rest.is_some_and(|rest| rest.trim_start().starts_with(':'))
        };
        self.all.iter().any(is_key)
    }

    /// The lines below the key that stands so far in, up to the next line that is no further in. `None`: there is no such key, or
    /// something stands behind it.
    fn block(&self, key: &str, within: Range<usize>, indent: usize) -> Option<Range<usize>> {
        let opens = |line: &str| {
            let rest = line.get(indent..).and_then(|rest| rest.strip_prefix(key));
            let rest = rest.and_then(|rest| rest.strip_prefix(':'));
            let comment = |rest: &str| {
                rest.is_empty()
                    || rest.starts_with([' ', '\t']) && rest.trim_start().starts_with('#')
            };
            width(line) == indent && rest.is_some_and(|rest| comment(rest.trim_end()))
        };
        let start = within.clone().find(|at| opens(&self.all[*at]))? + 1;
        let ends = |at: &usize| {
            let line = &self.all[*at];
            let item = indent > 0 && width(line) == indent && line.trim_start().starts_with("- ");
            says(line) && width(line) <= indent && !item
        };
        let end = (start..within.end).find(ends).unwrap_or(within.end);
        Some(start..end)
    }

    /// How far in the first entry of a block is.
    fn indent_in(&self, block: Range<usize>) -> Option<String> {
        let first = self.all[block].iter().find(|line| says(line))?;
        let indent = first[..width(first)].to_owned();
        indent.bytes().all(|byte| byte == b' ').then_some(indent)
    }

    /// Behind the last line of a block that is of it: blank lines and comments at the left are of what follows.
    fn end_of(&self, block: Range<usize>) -> usize {
        let of_it = |at: &usize| {
            let line = &self.all[*at];
            !line.trim().is_empty()
                && (says(line) || width(line) > 0 || block.end == self.all.len())
        };
        block
            .clone()
            .rev()
            .find(of_it)
            .map_or(block.start, |at| at + 1)
    }
}

/// How far in a line begins.
fn width(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// Whether a line is neither blank nor a comment.
fn says(line: &str) -> bool {
    let line = line.trim();
    !line.is_empty() && !line.starts_with('#')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addition() -> Addition {
        let workload = "new:\n  as: function\n  run: {wasm: {component: new.wasm}}\n";
        Addition {
            workloads: vec![workload.to_owned()],
            routes: vec!["- {path: /new, to: new}\n".to_owned()],
        }
    }

    fn app(text: &str) -> App {
        let parsed = manifest::parse(text, "tangelo.yaml", &Limits::default());
        parsed
            .app
            .unwrap_or_else(|| panic!("{:#?}\n{text}", parsed.diagnostics))
    }

    /// What it becomes, and that not a byte of what was there is another.
    fn added(text: &str) -> String {
        let made = addition().added_to(text, &app(text)).expect("has a place");
        let mut left = text.split_inclusive('\n').peekable();
        for line in made.split_inclusive('\n') {
            left.next_if(|old| *old == line || format!("{old}\n") == line);
        }
        assert_eq!(left.next(), None, "{made}");
        assert_eq!(app(&made).workloads.len(), app(text).workloads.len() + 1);
        made
    }

    const ONE: &str = "as: service\n    run: {external: {url: 'http://127.0.0.1:1'}}";

    #[test]
    fn entries_come_behind_the_last_of_their_kind() {
        let text = format!(
            "app: a # mine\n\nworkloads:\n  # the first\n  one:\n    {ONE}\n    # its end\n\n# Routes\ngateway:\n  routes:\n    - {{path: /one, to: one}}\n\
             hosts: {{old: one}}\n"
        );
        let made = added(&text);
        let expected = "    # its end\n\n  new:\n    as: function\n    run: {wasm: {component: new.wasm}}\n\n# Routes\n";
        assert!(made.contains(expected), "{made}");
        let routes = "    - {path: /one, to: one}\n    - {path: /new, to: new}\nhosts";
        assert!(made.contains(routes), "{made}");
    }

    #[test]
    fn other_hands_are_followed() {
        // No routes yet, and no line end at the end.
        let made = added(&format!("app: a\nworkloads:\n  one:\n    {ONE}"));
        assert!(
            made.ends_with("\ngateway:\n  routes:\n    - {path: /new, to: new}\n"),
            "{made}"
        );
        // Items as far in as their key, four blanks, the gateway first.
        let made = added(
            "gateway:\n    routes:\n    - path: /one\n      to: one\n    # more\nworkloads:\n    one:\n        as: service\n        run: {external: {url: 'http://127.0.0.1:1'}}\napp: a\n",
        );
        assert!(
            made.contains("    # more\n    - {path: /new, to: new}\nworkloads"),
            "{made}"
        );
        assert!(
            made.contains("\n\n    new:\n      as: function\n"),
            "{made}"
        );
        // Lines as Windows ends them.
        let made = added(&format!("app: a\nworkloads:\n  one:\n    {ONE}\n").replace('\n', "\r\n"));
        assert!(!made.replace("\r\n", "").contains('\n'), "{made:?}");
        // A text of several lines that looks like a key.
        added(
            "app: a\nworkloads:\n  one:\n    as: service\n    run: {process: {command: [./a]}}\n    env:\n      TEXT: |\n        workloads:\n          no: thing\n\n    owner: me\n",
        );
    }

    #[test]
    fn where_there_are_no_lines_to_put_it_between_nothing_is_made() {
        let one = "{as: service, run: {external: {url: 'http://127.0.0.1:1'}}}";
        for text in [
            format!("{{app: a, workloads: {{one: {one}}}}}"),
            format!("app: a\nworkloads: {{one: {one}}}\n"),
            format!(
                "app: a\nworkloads:\n  one: {one}\ngateway: {{routes: [{{path: /one, to: one}}]}}\n"
            ),
            // The name is taken.
            format!("app: a\nworkloads:\n  new: {one}\n"),
            // The path is.
            format!(
                "app: a\nworkloads:\n  one: {one}\ngateway:\n  routes:\n    - {{path: /new, to: one}}\n"
            ),
        ] {
            assert_eq!(addition().added_to(&text, &app(&text)), None, "{text}");
        }
        let shown = addition().shown();
        assert!(
            shown.starts_with("workloads:\n  new:\n    as: function\n"),
            "{shown}"
        );
        assert!(
            shown.ends_with("gateway:\n  routes:\n    - {path: /new, to: new}\n"),
            "{shown}"
        );
    }
}
