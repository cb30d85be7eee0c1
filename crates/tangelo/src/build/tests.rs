//! Builds with commands: when they run, when they do not, and what is said when they fail. The named builders need cargo,
//! npm and PyPI: `tests/builders.rs` runs them.

use std::{fs, path::Path};

use model::Limits;

use super::*;

fn app(build: &str) -> App {
    let text = format!(
        "app: it\nworkloads:\n  w: {{as: service, run: {{process: {{command: [./out/w]}}}}, build: {build}}}\n"
    );
    let parsed = manifest::parse(&text, "tangelo.yaml", &Limits::default());
    parsed
        .app
        .unwrap_or_else(|| panic!("{:?}", parsed.diagnostics))
}

const COPY: &str =
    "{command: [sh, -c, 'cat src/* > out/w; echo x >> runs'], inputs: [src], output: out/w}";

fn sources(folder: &Path) {
    fs::create_dir_all(folder.join("src/target")).expect("a folder");
    fs::write(folder.join("src/a"), "a").expect("written");
}

fn runs(folder: &Path) -> usize {
    fs::read_to_string(folder.join("runs"))
        .unwrap_or_default()
        .lines()
        .count()
}

#[test]
fn builds_again_only_when_inputs_changed() {
    let folder = tempfile::tempdir().expect("a folder");
    let (folder, app) = (folder.path(), app(COPY));
    sources(folder);
    let mut told = Vec::new();
    let mut build = |only_changed| {
        run(folder, &app, only_changed, &mut |line| {
            told.push(line.to_owned())
        })
    };
    assert_eq!(build(true).expect("builds").built.len(), 1);
    assert_eq!(build(true).expect("builds").unchanged.len(), 1);
    fs::write(folder.join("src/target/made"), "not an input").expect("written");
    assert_eq!(build(true).expect("builds").built.len(), 0);
    fs::write(folder.join("src/b"), "more").expect("written");
    assert_eq!(build(true).expect("builds").built.len(), 1);
    fs::remove_file(folder.join("src/b")).expect("removed");
    assert_eq!(build(true).expect("builds").built.len(), 1);
    fs::remove_file(folder.join("out/w")).expect("removed");
    assert_eq!(build(true).expect("builds").built.len(), 1);
    assert_eq!(build(false).expect("builds").built.len(), 1);
    assert_eq!(runs(folder), 5);
    assert_eq!(told[0], "building w (sh)");
    assert!(told[1].starts_with("built w in "), "{}", told[1]);
}

#[test]
fn a_changed_command_builds_again() {
    let folder = tempfile::tempdir().expect("a folder");
    sources(folder.path());
    let mut quiet = |_: &str| {};
    run(folder.path(), &app(COPY), true, &mut quiet).expect("builds");
    let other = app(&COPY.replace("cat", "head -c 1"));
    assert_eq!(
        run(folder.path(), &other, true, &mut quiet)
            .expect("builds")
            .built
            .len(),
        1
    );
}

#[track_caller]
fn fails(build: &str, expected: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    sources(folder.path());
    let error = run(folder.path(), &app(build), true, &mut |_| {}).expect_err("fails");
    let coded = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<Error>())
        .expect("a coded error");
    assert_eq!(coded.code, code::BUILD_FAILED);
    assert!(coded.message.contains(expected), "{coded}");
    assert!(!Record::path(folder.path(), &model::Name::literal("w")).exists());
}

#[test]
fn failures_show_what_was_said() {
    fails(
        "{command: [sh, -c, 'echo out; echo wrong >&2; exit 3'], inputs: [src], output: out/w}",
        "out\nwrong",
    );
    fails(
        "{command: [sh, -c, 'exit 3'], inputs: [src], output: out/w}",
        "it said nothing",
    );
    fails(
        "{command: ['true'], inputs: [src], output: out/w}",
        "did not make out/w",
    );
    fails(
        "{command: [no-such-program-here], inputs: [src], output: out/w}",
        "cannot be started",
    );
}

#[test]
fn only_the_end_of_much_output_is_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    sources(folder.path());
    let chatty = app("{command: [sh, -c, 'seq 1 100000; exit 1'], inputs: [src], output: out/w}");
    let error = run(folder.path(), &chatty, true, &mut |_| {}).expect_err("fails");
    let text = format!("{error:#}");
    assert!(
        text.contains("99999\n100000"),
        "{}",
        &text[text.len() - 100..]
    );
    assert!(text.len() < 70_000, "{}", text.len());
}

#[test]
fn imports_of_a_module_are_inputs() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    fs::create_dir(folder.join("part")).expect("a folder");
    fs::write(
        folder.join("main.js"),
        "import { a } from './part/a.js';\nimport x from 'elsewhere';",
    )
    .expect("written");
    fs::write(
        folder.join("part/a.js"),
        "export { a } from \"../b.js\"; import './gone.js'",
    )
    .expect("written");
    fs::write(folder.join("b.js"), "import './main.js'").expect("written");
    let files = imports::of(&folder.join("main.js"));
    assert_eq!(files.len(), 3);
}

#[test]
fn files_that_are_not_there_are_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = "app: it\nworkloads:\n  w: {as: service, run: {process: {command: [./gone]}}}\n";
    let parsed = manifest::parse(text, "tangelo.yaml", &Limits::default());
    let told = missing(
        folder.path(),
        &parsed,
        text,
        "tangelo.yaml",
        Look::BeforeBuild,
    );
    assert_eq!(
        (told.len(), told[0].span.line, told[0].code),
        (1, 3, code::ARTIFACT_MISSING)
    );
    fs::write(folder.path().join("gone"), "").expect("written");
    assert_eq!(
        missing(
            folder.path(),
            &parsed,
            text,
            "tangelo.yaml",
            Look::BeforeBuild
        ),
        []
    );
}

#[test]
fn the_server_s_wit_is_written_for_every_builder() {
    let cache = tempfile::tempdir().expect("a folder");
    let (own, js) = (
        wit::folder(cache.path()).expect("written"),
        wit::folder_for_js(cache.path()).expect("written"),
    );
    let http = |folder: &Path| fs::read_to_string(folder.join("deps/http.wit")).expect("there");
    assert!(http(&own).contains(&format!("package wasi:http@{};", wit::VERSION)));
    assert!(http(&js).contains("package wasi:http@0.2.10;"));
    assert_eq!(wit::folder(cache.path()).expect("there already"), own);
}

/// What is said of the files of one workload of `runtime` with the code `code`.
fn told_of_handler(folder: &Path, runtime: &str, handler: &str, code: &str) -> String {
    let text = format!(
        "app: a\nworkloads:\n  fn: {{as: function, run: {{lambda: {{runtime: {runtime}, handler: {handler}, code: {code}}}}}}}\n"
    );
    let parsed = manifest::parse(&text, "tangelo.yaml", &Limits::default());
    assert!(parsed.app.is_some(), "{:?}", parsed.diagnostics);
    let missing = missing(folder, &parsed, &text, "tangelo.yaml", Look::Built);
    manifest::render(&missing, &text, "tangelo.yaml")
}

#[test]
fn a_handler_whose_module_is_not_there_is_told_with_what_is() {
    let folder = tempfile::tempdir().expect("a folder");
    for file in ["py/app.py", "py/deep/in.py", "js/index.mjs", "js/util.cjs"] {
        let path = folder.path().join(file);
        fs::create_dir_all(path.parent().expect("has one")).expect("makes a folder");
        fs::write(path, "").expect("writes");
    }
    let told = |runtime, handler, code| told_of_handler(folder.path(), runtime, handler, code);
    for (runtime, handler, code) in [
        ("python3", "app.handler", "py"),
        ("python3", "app.handler", "py/app.py"),
        ("python3", "deep/in.handler", "py"),
        ("python3", "deep.in.handler", "py"),
        ("nodejs", "index.api.handler", "js"),
        ("nodejs", "util.handler", "js"),
    ] {
        assert_eq!(told(runtime, handler, code), "", "{handler}");
    }
    let python = told("python3", "ap.handler", "py");
    for part in [
        "error[TG0103]: `ap.py` is not in `py`",
        "did you mean `app.handler`?",
        "there is `app.py`",
        "tangelo.yaml:3:",
    ] {
        assert!(python.contains(part), "{part}: {python}");
    }
    let node = told("nodejs", "idnex.handler", "js");
    assert!(node.contains("`idnex.js` is not in `js`"), "{node}");
    assert!(node.contains("did you mean `index.handler`?"), "{node}");
    assert!(node.contains("there is `index.mjs`, `util.cjs`"), "{node}");
    let absent = told("nodejs", "index.handler", "jss");
    assert_eq!(absent.matches("error[").count(), 1, "{absent}");
}
