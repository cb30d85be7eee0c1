//! `run` and `build`: how code runs, and how its artifact is made.

use std::time::Duration;

use model::{
    Build, Reuse, Run,
    app::{LambdaPayload, LambdaRuntime, LambdaTemplate},
};

use crate::{
    container,
    places::WorkloadPlaces,
    reader::{Fields, Reader, listed, shown},
    tree::{Bytes, Key, Node, Value},
};

/// Ways to run.
pub(crate) const RUNS: &[&str] = &["wasm", "lambda", "process", "external", "container"];
/// Keys of `run.wasm`.
pub(crate) const WASM_KEYS: &[&str] = &["component", "reuse"];
/// Keys of `run.wasm.reuse`.
pub(crate) const REUSE_KEYS: &[&str] = &["requests", "idle", "concurrent"];
/// Keys of `run.lambda`.
pub(crate) const LAMBDA_KEYS: &[&str] = &["runtime", "handler", "code", "payload", "template"];
/// Keys of `run.process`.
pub(crate) const PROCESS_KEYS: &[&str] = &["command", "files"];
/// Keys of `run.external`.
pub(crate) const EXTERNAL_KEYS: &[&str] = &["url"];
/// Ways to build.
pub(crate) const BUILDS: &[&str] = &["rust", "js", "python", "command", "inputs", "output"];
/// Keys of `build.rust`.
pub(crate) const RUST_KEYS: &[&str] = &["package"];
/// Keys of `build.js`.
pub(crate) const JS_KEYS: &[&str] = &["source"];
/// Keys of `build.python`.
pub(crate) const PYTHON_KEYS: &[&str] = &["source", "module"];

const RUN_EXAMPLE: &str = "run: {wasm: {component: hello.wasm}}";

pub(crate) fn read_run(
    reader: &mut Reader<'_>,
    fields: Fields<'_>,
    places: &mut WorkloadPlaces,
) -> Option<Run> {
    let node = fields.required(reader, "run", RUN_EXAMPLE)?;
    let (key, node) = only(reader, node, RUNS)?;
    match key.text.as_str() {
        "wasm" => read_wasm(reader, key, node, places),
        "lambda" => read_lambda(reader, key, node, places),
        "process" => read_process(reader, key, node, places),
        "external" => read_external(reader, key, node),
        "container" => container::read(reader, key, node),
        _ => None,
    }
}

/// The only entry of a map that names a way by its key.
fn only<'n>(reader: &mut Reader<'_>, node: &'n Node, ways: &[&str]) -> Option<&'n (Key, Node)> {
    let fields = reader.fields(node, node.at, ways)?;
    match fields.entries() {
        [entry] => Some(entry),
        _ => {
            let run_here = |way: &&str| !crate::app::LATER.contains(way);
            let ways: Vec<&str> = ways.iter().copied().filter(run_here).collect();
            let expected = format!("expected exactly one of {}", listed(&ways));
            reader
                .error(node.at, expected)
                .help(format!("for example `{RUN_EXAMPLE}`"));
            None
        }
    }
}

fn read_wasm(
    reader: &mut Reader<'_>,
    key: &Key,
    node: &Node,
    places: &mut WorkloadPlaces,
) -> Option<Run> {
    let fields = reader.fields(node, key.at, WASM_KEYS)?;
    let node = fields.required(reader, "component", "component: hello.wasm")?;
    let component = reader.file(node, "the path of a component")?;
    places.files.push((component.clone(), node.at));
    let reuse = fields.entry("reuse");
    let reuse = reuse.and_then(|(key, node)| read_reuse(reader, key, node));
    Some(Run::Wasm { component, reuse })
}

/// Requests of an instance, unless said: what `wasmtime serve` has for components that bear it.
const REUSED: u32 = 128;
/// How long an instance waits for its next request, unless said.
const REUSE_IDLE: Duration = Duration::from_secs(10);

fn read_reuse(reader: &mut Reader<'_>, key: &Key, node: &Node) -> Option<Reuse> {
    let fields = reader.fields(node, key.at, REUSE_KEYS)?;
    let requests = fields.get("requests");
    let requests = requests.map_or(Some(REUSED), |node| reader.number(node, 1..=1_000_000));
    let (least, most) = (Duration::from_millis(100), Duration::from_secs(3600));
    let idle = fields.get("idle");
    let idle = idle.map_or(Some(REUSE_IDLE), |node| reader.duration(node, least, most));
    let at_once = fields.get("concurrent");
    let concurrent = at_once.map_or(Some(1), |node| reader.number(node, 1..=1000));
    if let (Some(node), Some(requests), Some(concurrent)) = (at_once, requests, concurrent)
        && concurrent > requests
    {
        reader
            .error(
                node.at,
                "an instance cannot serve more requests at once than it serves in all",
            )
            .expected(format!(
                "expected at most `concurrent: {requests}`, or more `requests`"
            ));
    }
    Some(Reuse {
        requests: requests?,
        idle: idle?,
        concurrent: concurrent?,
    })
}

fn read_lambda(
    reader: &mut Reader<'_>,
    key: &Key,
    node: &Node,
    places: &mut WorkloadPlaces,
) -> Option<Run> {
    let fields = reader.fields(node, key.at, LAMBDA_KEYS)?;
    let runtime = fields.required(reader, "runtime", "runtime: python3");
    let runtime = runtime.and_then(|node| read_runtime(reader, node));
    let handler_node = fields.required(reader, "handler", "handler: app.handler");
    let handler = handler_node.and_then(|node| reader.string(node, "a handler"));
    places.handler = handler_node.map_or(key.at, |node| node.at);
    if let (Some(LambdaRuntime::Python3 | LambdaRuntime::Nodejs), Some(handler), Some(node)) =
        (runtime, &handler, handler_node)
        && !is_handler(handler)
    {
        reader
            .error(node.at, format!("`{handler}` is no handler"))
            .help("a handler is `file.function`: `app.handler` is `handler` in app.py or app.mjs");
    }
    let code_node = fields.required(reader, "code", "code: functions/app");
    let code = code_node.and_then(|node| reader.file(node, "the path of the code"));
    if let (Some(code), Some(node)) = (&code, code_node) {
        places.files.push((code.clone(), node.at));
    }
    let payload = fields.get("payload");
    let payload = payload.and_then(|node| read_payload(reader, node));
    let template = fields.get("template");
    let template = template.and_then(|node| read_template(reader, node, runtime));
    Some(Run::Lambda {
        runtime: runtime?,
        handler: handler?,
        code: code?,
        payload: payload.unwrap_or_default(),
        template: template.unwrap_or_default(),
    })
}

fn read_template(
    reader: &mut Reader<'_>,
    node: &Node,
    runtime: Option<LambdaRuntime>,
) -> Option<LambdaTemplate> {
    match reader.word(node, &["off", "runtime", "handler"])? {
        "off" => Some(LambdaTemplate::Off),
        "runtime" => Some(LambdaTemplate::Runtime),
        _ => {
            if runtime.is_some_and(|runtime| runtime != LambdaRuntime::Python3) {
                reader
                    .error(node.at, "only Python's templates can hold the handler")
                    .expected("expected `runtime` or `off`")
                    .help("a process of another language cannot be forked");
            }
            Some(LambdaTemplate::Handler)
        }
    }
}

fn read_payload(reader: &mut Reader<'_>, node: &Node) -> Option<LambdaPayload> {
    match reader.word(node, &["http", "rest", "alb", "alb-multi-value"])? {
        "http" => Some(LambdaPayload::Http),
        "rest" => Some(LambdaPayload::Rest),
        "alb" => Some(LambdaPayload::Alb),
        _ => Some(LambdaPayload::AlbMultiValue),
    }
}

fn read_runtime(reader: &mut Reader<'_>, node: &Node) -> Option<LambdaRuntime> {
    match reader.word(node, &["python3", "nodejs", "provided"])? {
        "python3" => Some(LambdaRuntime::Python3),
        "nodejs" => Some(LambdaRuntime::Nodejs),
        _ => Some(LambdaRuntime::Provided),
    }
}

fn is_handler(handler: &str) -> bool {
    handler
        .rsplit_once('.')
        .is_some_and(|(file, function)| !file.is_empty() && !function.is_empty())
}

fn read_process(
    reader: &mut Reader<'_>,
    key: &Key,
    node: &Node,
    places: &mut WorkloadPlaces,
) -> Option<Run> {
    let fields = reader.fields(node, key.at, PROCESS_KEYS)?;
    let command = fields
        .required(reader, "command", "command: [./bin/catalog]")
        .map(|node| read_command(reader, node))?;
    for (word, at) in command.iter().filter(|(word, _)| word.starts_with("./")) {
        places.files.push((word.clone(), *at));
    }
    check_program(reader, &command);
    let mut files = Vec::new();
    if let Some(node) = fields.get("files") {
        for item in reader.list(node, "paths") {
            if let Some(path) = reader.file(item, "a path") {
                places.files.push((path.clone(), item.at));
                files.push(path);
            }
        }
    }
    Some(Run::Process {
        command: command.into_iter().map(|(word, _)| word).collect(),
        files,
    })
}

fn check_program(reader: &mut Reader<'_>, command: &[(String, Bytes)]) {
    let Some((program, at)) = command.first() else {
        return;
    };
    let own = program.starts_with(['.', '/']);
    let told = shown(program);
    if command.len() == 1 && !own && program.trim().contains(char::is_whitespace) {
        reader
            .error(*at, format!("`{told}` is one word: no program is named so"))
            .expected(format!("write its words apart: `{}`", split(program)));
    } else if program.contains('/') && !own {
        let message = format!("`{told}` is neither a program of the machine nor a file of the app");
        reader
            .error(*at, message)
            .expected(format!("write `./{told}`"));
    }
}

/// A program and its arguments; numbers among them are taken as they are written.
pub(crate) fn read_command(reader: &mut Reader<'_>, node: &Node) -> Vec<(String, Bytes)> {
    const OF: &str = "a program and its arguments";
    let mut command = Vec::new();
    if let Value::Text(text) = &node.value {
        reader
            .error(node.at, format!("expected a list of {OF}"))
            .expected(format!("write it as a list: `{}`", split(text)));
        return command;
    }
    for item in reader.list(node, OF) {
        let word = match &item.value {
            Value::Text(text) => text.clone(),
            Value::Number(_) | Value::Bool(_) => reader.raw(item).to_owned(),
            _ => {
                reader.wrong(item, "expected a text");
                continue;
            }
        };
        command.push((word, item.at));
    }
    let empty = command
        .first()
        .is_none_or(|(program, _)| program.trim().is_empty());
    if empty && matches!(&node.value, Value::List(_)) {
        reader
            .error(node.at, "the command is empty")
            .help("for example `command: [./bin/catalog, --verbose]`");
    }
    command
}

/// A command line as the list that it was meant to be. A shell's quotes are not understood: nothing here runs one.
fn split(line: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "./_-+=@".contains(c);
    let words = line.split_whitespace().map(|word| {
        let word = shown(word);
        if word.chars().all(plain) && !word.starts_with(['-', '@', '=']) || word.starts_with("--") {
            word
        } else {
            format!("{word:?}")
        }
    });
    format!("[{}]", words.collect::<Vec<_>>().join(", "))
}

fn read_external(reader: &mut Reader<'_>, key: &Key, node: &Node) -> Option<Run> {
    let fields = reader.fields(node, key.at, EXTERNAL_KEYS)?;
    let node = fields.required(reader, "url", "url: https://api.example.com")?;
    let url = reader.url(node)?;
    Some(Run::External { url })
}

pub(crate) fn read_build(reader: &mut Reader<'_>, key: &Key, node: &Node) -> Option<Build> {
    let all = reader.fields(node, key.at, BUILDS)?;
    if all.entry("command").is_some()
        || all.entry("inputs").is_some()
        || all.entry("output").is_some()
    {
        return read_custom(reader, all);
    }
    let (key, node) = only(reader, node, &BUILDS[..4])?;
    let example = match key.text.as_str() {
        "rust" => "rust: {package: functions/auth}",
        "js" => "js: {source: functions/thumbs.js}",
        "python" => "python: {source: functions/thumbs, module: app}",
        _ => return None,
    };
    let keys = match key.text.as_str() {
        "rust" => RUST_KEYS,
        "js" => JS_KEYS,
        _ => PYTHON_KEYS,
    };
    let fields = reader.fields(node, key.at, keys)?;
    let first = fields.required(reader, keys[0], example)?;
    let path = reader.file(first, "a path")?;
    match key.text.as_str() {
        "rust" => Some(Build::Rust { package: path }),
        "js" => Some(Build::Js { source: path }),
        _ => {
            let node = fields.required(reader, "module", example)?;
            let module = reader.string(node, "the name of a module")?;
            Some(Build::Python {
                source: path,
                module,
            })
        }
    }
}

fn read_custom(reader: &mut Reader<'_>, fields: Fields<'_>) -> Option<Build> {
    for (key, _) in fields.entries() {
        if BUILDS[..3].contains(&key.text.as_str()) {
            let message = format!("`{}` and `command` are two ways to build", key.text);
            reader.error(key.at, message).help("give one of them");
        }
    }
    let command = fields
        .required(reader, "command", "command: [make, bin/catalog]")
        .map(|node| read_command(reader, node));
    let inputs = fields
        .required(reader, "inputs", "inputs: [src, go.mod]")
        .map(|node| read_inputs(reader, node));
    let output = fields
        .required(reader, "output", "output: bin/catalog")
        .and_then(|node| reader.file(node, "the path of what it makes"));
    Some(Build::Command {
        command: command?.into_iter().map(|(word, _)| word).collect(),
        inputs: inputs?,
        output: output?,
    })
}

fn read_inputs(reader: &mut Reader<'_>, node: &Node) -> Vec<String> {
    let items = reader.list(node, "paths");
    if items.is_empty() && matches!(&node.value, Value::List(_)) {
        reader
            .error(node.at, "there are no inputs")
            .help("name the files and folders whose change makes the command run again");
    }
    items
        .iter()
        .filter_map(|item| reader.file(item, "a path"))
        .collect()
}

#[cfg(test)]
mod tests {
    use model::Limits;

    fn messages(runtime: &str, template: &str) -> Vec<String> {
        let lambda = format!("runtime: {runtime}, handler: a.b, code: a, template: {template}");
        let text = format!(
            "app: one\nworkloads:\n  it: {{as: function, run: {{lambda: {{{lambda}}}}}}}\n"
        );
        let parsed = crate::parse(&text, "tangelo.yaml", &Limits::default());
        parsed.diagnostics.into_iter().map(|d| d.message).collect()
    }

    #[test]
    fn templates_hold_what_they_can() {
        let handler = "only Python's templates can hold the handler";
        for (runtime, template, told) in [
            ("python3", "off", vec![]),
            ("python3", "handler", vec![]),
            ("nodejs", "runtime", vec![]),
            ("nodejs", "handler", vec![handler]),
            ("provided", "handler", vec![handler]),
            ("python3", "always", vec!["`always` is not known here"]),
        ] {
            assert_eq!(messages(runtime, template), told, "{runtime}, {template}");
        }
    }
}
