//! Which WASI a component is of: found in its list of exports before it is compiled, since each has its engine.

use model::{Error, code};
use wasmparser::{Parser, Payload};
use wasmtime::component::Component;

use super::code::bad;

/// The interfaces without one of which a component takes no requests.
const HANDLER_0_2: &str = "wasi:http/incoming-handler@0.2";
const HANDLER_0_3: &str = "wasi:http/handler@0.3";

/// A world of components.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum World {
    /// `wasi:http/proxy` of WASI 0.2.
    Two,
    /// `wasi:http/service` of WASI 0.3.
    Three,
}

/// The world in which a component is to run, on a server that runs those of WASI 0.3 or not, for a workload whose
/// instances are to serve several requests at the same time or not. What exports neither handler is for
/// [`check`] to refuse, after it was compiled.
///
/// # Errors
/// `PREVIEW_OFF` and `NOT_CONCURRENT`.
pub(super) fn chosen(bytes: &[u8], preview3: bool, concurrent: bool) -> Result<World, Error> {
    let exports = exported(bytes);
    let has = |handler: &str| exports.iter().any(|name| name.starts_with(handler));
    let (two, three) = (has(HANDLER_0_2), has(HANDLER_0_3));
    match (two, three) {
        // A component that can be both is of the faster one, unless it is asked for what only the other can do.
        (_, true) if preview3 && (concurrent || !two) => Ok(World::Three),
        (false, true) => Err(Error::new(
            code::PREVIEW_OFF,
            "the component is of WASI 0.3, which this server does not run: set `wasi_preview3 = true` in tangelo.toml",
        )),
        (true, _) if concurrent => Err(Error::new(
            code::NOT_CONCURRENT,
            "the component is of WASI 0.2, whose instances serve one request at a time: `reuse` cannot have `concurrent` above 1",
        )),
        _ => Ok(World::Two),
    }
}

/// Why a component cannot serve several requests at the same time in one instance, if it is none that can: for whoever
/// has the file, and no server.
#[must_use]
pub fn not_concurrent(component: &[u8]) -> Option<Error> {
    chosen(component, true, true).err()
}

/// The names that a component exports; of one that is malformed, those before the fault. What it contains is skipped,
/// so that the depth of its nesting costs nothing.
fn exported(bytes: &[u8]) -> Vec<&str> {
    let mut names = Vec::new();
    let (mut parser, mut at) = (Parser::new(0), 0);
    while let Some(rest) = bytes.get(at..)
        && let Ok(wasmparser::Chunk::Parsed { consumed, payload }) = parser.parse(rest, true)
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

/// Whether a component of WASI 0.2 takes requests.
///
/// # Errors
/// `BAD_COMPONENT` when it does not; it says what it exports.
pub(super) fn check(engine: &wasmtime::Engine, component: &Component) -> Result<(), Error> {
    let kind = component.component_type();
    let exports: Vec<&str> = kind.exports(engine).map(|(name, _)| name).collect();
    if exports.iter().any(|name| name.starts_with(HANDLER_0_2)) {
        return Ok(());
    }
    let listed = match exports.as_slice() {
        [] => "nothing".to_owned(),
        some => {
            let shown = some.iter().take(8).map(|name| format!("`{name}`"));
            shown.collect::<Vec<_>>().join(", ")
        }
    };
    Err(bad(format!(
        "the component does not export `wasi:http/incoming-handler` 0.2, so it takes no requests; it exports {listed}"
    )))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A component that exports an instance under each name, after a nested component that exports `inner`.
    fn component(inner: &[&str], names: &[&str]) -> Vec<u8> {
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

    const TWO: &str = "wasi:http/incoming-handler@0.2.3";
    const THREE: &str = "wasi:http/handler@0.3.0";

    #[test]
    fn the_world_follows_from_the_exports_and_from_what_is_asked_for() {
        let code = |names: &[&str], preview3, concurrent| {
            let chosen = chosen(&component(&[], names), preview3, concurrent);
            chosen.map_err(|error| error.code)
        };
        for preview3 in [false, true] {
            assert_eq!(code(&[TWO], preview3, false), Ok(World::Two));
            assert_eq!(code(&[TWO], preview3, true), Err(code::NOT_CONCURRENT));
            assert_eq!(
                code(&["run"], preview3, false),
                Ok(World::Two),
                "refused later"
            );
        }
        assert_eq!(code(&[THREE], false, false), Err(code::PREVIEW_OFF));
        assert_eq!(code(&[THREE], false, true), Err(code::PREVIEW_OFF));
        assert_eq!(code(&["other", THREE], true, false), Ok(World::Three));
        assert_eq!(code(&[TWO, THREE], true, false), Ok(World::Two));
        assert_eq!(code(&[TWO, THREE], true, true), Ok(World::Three));
        assert_eq!(code(&[TWO, THREE], false, true), Err(code::NOT_CONCURRENT));
    }

    #[test]
    fn what_is_inside_does_not_count() {
        let bytes = component(&[THREE], &[TWO]);
        assert_eq!(exported(&bytes), [TWO]);
        // The whole of a deep nest is one section.
        let mut deep = component(&[], &[THREE]);
        for _ in 0..10_000 {
            let mut outer = b"\0asm\x0d\0\x01\0".to_vec();
            section(&mut outer, 4, &deep);
            deep = outer;
        }
        assert_eq!(exported(&deep), Vec::<&str>::new());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_to_their_first_fault(tail in proptest::collection::vec(any::<u8>(), 0..256)) {
            let mut bytes = component(&[TWO], &[THREE]);
            bytes.extend(&tail);
            let names = exported(&bytes);
            prop_assert_eq!(names.first(), Some(&THREE));
            let _ = exported(&tail);
        }
    }
}
