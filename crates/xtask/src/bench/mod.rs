//! `cargo xtask bench`: Tangelo and its peers on the same work in one run, a line per figure.
//!
//! A ratio above 1 is in Tangelo's favour. Rounds alternate between the sides and the median counts, since a
//! machine's speed drifts while it is measured.

mod biglog;
mod brokers;
mod coldload;
mod coldstart;
mod cpu;
mod deliver;
mod footprint;
mod idle;
mod lambda;
mod load;
mod memory;
mod neighbours;
mod open_loop;
mod overload;
mod process;
mod proxy;
mod publish;
mod reload;
mod runtime_api;
mod scale;
mod surge;
mod wasm;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::Serialize;

use crate::{server, shell, tools, workspace::Workspace};

/// Options of `cargo xtask bench`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Which benchmark; all when none is named.
    name: Option<String>,
    /// Prints a JSON object per figure.
    #[arg(long)]
    json: bool,
    /// Seconds of load in each round of each side.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Rounds.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Events in the large log of `biglog`; the small one has a thousandth, the backlog a tenth of it.
    #[arg(long, default_value_t = 10_000_000)]
    events: u64,
    /// Measures a build without optimisation: to try the benchmark itself.
    #[arg(long)]
    dev: bool,
    /// Measures this `tangelo` instead of building one.
    #[arg(long, value_name = "FILE", conflicts_with = "dev")]
    binary: Option<PathBuf>,
}

/// One line.
#[derive(Debug, Serialize)]
struct Figure {
    bench: &'static str,
    metric: String,
    peer: String,
    tangelo: f64,
    theirs: Option<f64>,
    ratio: Option<f64>,
    /// What all sides were started with.
    environment: String,
    /// What ran the handlers of both sides, where they need one.
    #[serde(skip_serializing_if = "Option::is_none")]
    interpreter: Option<PathBuf>,
}

impl Figure {
    /// The same, of handlers that `program` ran, or that are it.
    fn run_by(mut self, program: &Path) -> Self {
        self.interpreter = Some(program.to_owned());
        self
    }

    /// What it was measured with.
    fn means(&self) -> String {
        let by = self.interpreter.as_ref();
        let by = by.map_or_else(String::new, |by| format!("; run by {}", by.display()));
        format!("  both sides with {}{by}", self.environment)
    }
}

/// What every benchmark gets.
struct Bench<'a> {
    workspace: &'a Workspace,
    options: &'a Options,
    /// The `tangelo` to measure.
    binary: PathBuf,
    /// A folder to work in, emptied before each benchmark.
    folder: PathBuf,
}

type Run = fn(&Bench<'_>) -> anyhow::Result<Vec<Figure>>;

/// Their names, and what they need of the machine.
const ALL: &[(&str, Run, &[&str])] = &[
    ("wasm", wasm::run, &["wrk"]),
    ("proxy", proxy::run, &["nginx", "haproxy", "caddy", "wrk"]),
    (
        "publish",
        publish::run,
        &["redis-server", "rabbitmq-server", "wrk"],
    ),
    ("patterns", publish::patterns, &[]),
    ("reload", reload::run, &[]),
    ("coldload", coldload::run, &[]),
    ("scale", scale::run, &["wrk"]),
    ("overload", overload::run, &["wrk"]),
    ("idle", idle::run, &["haproxy"]),
    ("deliver", deliver::run, &["wrk"]),
    ("biglog", biglog::run, &["wrk"]),
    ("footprint", footprint::run, &[]),
    ("neighbours", neighbours::run, &[]),
    ("surge", surge::run, &[]),
    ("lambda", lambda::run, &[]),
    ("coldstart", coldstart::run, &[]),
];

/// Runs one or all.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> anyhow::Result<()> {
    let chosen: Vec<_> = ALL
        .iter()
        .filter(|(name, ..)| options.name.as_deref().is_none_or(|wanted| wanted == *name))
        .collect();
    if chosen.is_empty() {
        let names: Vec<_> = ALL.iter().map(|(name, ..)| *name).collect();
        bail!("no such benchmark; there are {}", names.join(", "));
    }
    let bench = Bench {
        workspace,
        options,
        binary: match &options.binary {
            Some(binary) => binary.canonicalize()?,
            None => server::build(workspace, !options.dev)?,
        },
        folder: workspace.target.join("bench"),
    };
    for (name, run, needs) in chosen {
        tools::programs(workspace, needs)?;
        let _ = std::fs::remove_dir_all(&bench.folder);
        std::fs::create_dir_all(&bench.folder)?;
        let mut means = String::new();
        for figure in run(&bench).with_context(|| format!("bench {name}"))? {
            if !options.json && figure.means() != means {
                means = figure.means();
                println!("{means}");
            }
            print(&figure, options.json)?;
        }
    }
    Ok(())
}

fn print(figure: &Figure, json: bool) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::to_string(figure)?);
        return Ok(());
    }
    let theirs = figure
        .theirs
        .map_or_else(|| "-".to_owned(), |v| format!("{v:.1}"));
    let ratio = figure
        .ratio
        .map_or_else(|| "-".to_owned(), |v| format!("{v:.2}"));
    println!(
        "{:<8} {:<52} tangelo {:>10.1}   {} {theirs:>10}   ratio {ratio}",
        figure.bench, figure.metric, figure.tangelo, figure.peer
    );
    Ok(())
}

impl Bench<'_> {
    /// A figure against a peer, where more is better.
    fn more(
        &self,
        bench: &'static str,
        metric: &str,
        peer: &str,
        tangelo: f64,
        theirs: f64,
    ) -> Figure {
        Figure {
            bench,
            metric: self.metric(metric),
            peer: peer.to_owned(),
            tangelo,
            theirs: Some(theirs),
            ratio: Some(tangelo / theirs),
            environment: shell::environment(),
            interpreter: None,
        }
    }

    /// A figure against a peer, where less is better.
    fn less(
        &self,
        bench: &'static str,
        metric: &str,
        peer: &str,
        tangelo: f64,
        theirs: f64,
    ) -> Figure {
        Figure {
            ratio: Some(theirs / tangelo),
            ..self.more(bench, metric, peer, tangelo, theirs)
        }
    }

    /// A figure of our own.
    fn alone(&self, bench: &'static str, metric: &str, tangelo: f64) -> Figure {
        Figure {
            bench,
            metric: self.metric(metric),
            peer: "none".to_owned(),
            tangelo,
            theirs: None,
            ratio: None,
            environment: shell::environment(),
            interpreter: None,
        }
    }

    fn metric(&self, metric: &str) -> String {
        let note = if self.options.dev {
            " (not optimised)"
        } else {
            ""
        };
        format!("{metric}{note}")
    }
}

/// The middle of them; the mean of the two middles when their number is even.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => f64::midpoint(values[n / 2 - 1], values[n / 2]),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    #[test]
    fn a_figure_says_what_its_sides_were_started_with() {
        let figure = super::Figure {
            bench: "lambda",
            metric: "µs".to_owned(),
            peer: "none".to_owned(),
            tangelo: 1.0,
            theirs: None,
            ratio: None,
            environment: "LANG=C".to_owned(),
            interpreter: None,
        };
        let figure = figure.run_by(Path::new("/bin/python3"));
        let line = serde_json::to_value(&figure).expect("is data");
        assert_eq!(
            (&line["environment"], &line["interpreter"]),
            (&"LANG=C".into(), &"/bin/python3".into())
        );
        assert_eq!(
            figure.means(),
            "  both sides with LANG=C; run by /bin/python3"
        );
    }

    #[test]
    fn the_median_is_the_middle() {
        assert!((super::median(&mut [3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((super::median(&mut [4.0, 1.0]) - 2.5).abs() < f64::EPSILON);
        assert!(super::median(&mut []).is_nan());
    }
}
