//! The templates of `tangelo init`: their names and their files.

use clap::ValueEnum;

/// What `tangelo init` can write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Template {
    /// A function: a component in Rust
    Rust,
    /// A function: a component in JavaScript
    Js,
    /// A function: a component in Python
    Python,
    /// A function: an AWS Lambda handler in Python
    PythonHandler,
    /// A function: an AWS Lambda handler in JavaScript for Node.js
    NodeHandler,
    /// A service: a program that listens on $PORT
    Process,
}

type Files = &'static [(&'static str, &'static str)];

macro_rules! files {
    ($($path:literal from $source:literal),* $(,)?) => {
        &[
            (".gitignore", include_str!("../templates/gitignore")),
            $(($path, include_str!(concat!("../templates/", $source))),)*
        ]
    };
}

const RUST: Files = files![
    "tangelo.yaml" from "rust/tangelo.yaml",
    "hello/Cargo.toml" from "rust/hello/Cargo.toml.in",
    "hello/src/main.rs" from "rust/hello/src/main.rs.in",
];
const JS: Files = files!["tangelo.yaml" from "js/tangelo.yaml", "hello.js" from "js/hello.js"];
const PYTHON: Files =
    files!["tangelo.yaml" from "python/tangelo.yaml", "hello/app.py" from "python/hello/app.py"];
const PYTHON_HANDLER: Files = files![
    "tangelo.yaml" from "python-handler/tangelo.yaml",
    "hello/hello.py" from "python-handler/hello/hello.py",
];
const NODE_HANDLER: Files = files![
    "tangelo.yaml" from "node-handler/tangelo.yaml",
    "hello/index.mjs" from "node-handler/hello/index.mjs",
];
const PROCESS: Files =
    files!["tangelo.yaml" from "process/tangelo.yaml", "server.py" from "process/server.py"];

impl Template {
    /// Every template.
    #[cfg(test)]
    pub(crate) const ALL: &[Self] = &[
        Self::Rust,
        Self::Js,
        Self::Python,
        Self::PythonHandler,
        Self::NodeHandler,
        Self::Process,
    ];

    /// Its files: paths in the app's folder, and texts in which `{{app}}` stands for the app's name.
    pub(crate) const fn files(self) -> Files {
        match self {
            Self::Rust => RUST,
            Self::Js => JS,
            Self::Python => PYTHON,
            Self::PythonHandler => PYTHON_HANDLER,
            Self::NodeHandler => NODE_HANDLER,
            Self::Process => PROCESS,
        }
    }
}
