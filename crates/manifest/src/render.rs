//! Diagnostics as people read them: file, line, column, a marked excerpt, what was expected.

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use crate::diagnostic::{Diagnostic, Severity, Span};

/// All diagnostics over the manifest `text`, plain, an empty line between them.
#[must_use]
pub fn render(diagnostics: &[Diagnostic], text: &str, file_name: &str) -> String {
    render_with(&Renderer::plain(), diagnostics, text, file_name)
}

/// As [`render`], with colours for a terminal.
#[must_use]
pub fn render_colored(diagnostics: &[Diagnostic], text: &str, file_name: &str) -> String {
    render_with(&Renderer::styled(), diagnostics, text, file_name)
}

fn render_with(
    renderer: &Renderer,
    diagnostics: &[Diagnostic],
    text: &str,
    file_name: &str,
) -> String {
    diagnostics
        .iter()
        .map(|diagnostic| {
            let code = diagnostic.code.to_string();
            renderer.render(&[report(diagnostic, &code, text, file_name)]) + "\n"
        })
        .collect::<Vec<_>>()
        .join("\n")
}

fn report<'d>(
    diagnostic: &'d Diagnostic,
    code: &'d str,
    text: &'d str,
    file_name: &'d str,
) -> Group<'d> {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let (excerpt, from) = lines_of(diagnostic.span, text);
    let mark = AnnotationKind::Primary
        .span(diagnostic.span.start - from..diagnostic.span.end - from)
        .label(diagnostic.expected.as_deref());
    let excerpt = Snippet::source(excerpt)
        .line_start(diagnostic.span.line)
        .path(file_name)
        .annotation(mark);
    let group = level
        .primary_title(diagnostic.message.as_str())
        .id(code)
        .element(excerpt);
    match &diagnostic.help {
        Some(help) => group.element(Level::HELP.message(help.as_str())),
        None => group,
    }
}

/// The lines that hold `span`, and where they begin: the renderer reads all that it is given.
fn lines_of(span: Span, text: &str) -> (&str, usize) {
    let start = text[..span.start].rfind('\n').map_or(0, |at| at + 1);
    let end = text[span.end..]
        .find('\n')
        .map_or(text.len(), |at| span.end + at);
    (&text[start..end], start)
}
