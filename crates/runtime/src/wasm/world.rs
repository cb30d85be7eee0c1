//! Which WASI a component is of: found in its list of exports before it is compiled, since each has its engine.

use model::{Error, code};
use wasmtime::component::Component;

use super::{code::bad, exports::exported};

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
    use super::{super::exports::tests::component, *};

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
}
