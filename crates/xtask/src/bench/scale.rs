//! How cost grows with what is deployed: requests per CPU second of one function among 10, 1,000 and 10,000 routed
//! workloads, and what each that is idle costs in memory and at the start.

use std::{fmt::Write, fs, time::Instant};

use anyhow::Context;

use super::{Bench, Figure, load, median, memory, wasm};

/// Workloads of one app at most; more are spread over several.
const OF_AN_APP: usize = 1000;
const SIZES: [usize; 3] = [10, 1000, 10_000];

/// Measures each size.
pub(super) fn run(bench: &Bench<'_>) -> anyhow::Result<Vec<Figure>> {
    let component = wasm::component(bench.workspace, None)?;
    let mut figures = Vec::new();
    let mut smallest: Option<Measured> = None;
    for size in SIZES {
        let data = bench.folder.join(format!("data-{size}"));
        let server = wasm::serve(bench, &data, true, &[], None)?;
        for first in (0..size).step_by(OF_AN_APP) {
            let app = bench.folder.join(format!("app-{size}-{first}"));
            fs::create_dir_all(&app)?;
            fs::write(
                app.join("tangelo.yaml"),
                manifest(first, size.min(first + OF_AN_APP)),
            )?;
            fs::copy(&component, app.join("hello.wasm"))?;
            server.tangelo(&["deploy", app.to_str().context("a path in UTF-8")?])?;
        }
        server.stop()?;
        let begun = Instant::now();
        let server = wasm::serve(bench, &data, false, &[], None)?;
        let ready = begun.elapsed().as_secs_f64() * 1000.0;
        let resident = memory::resident_mib(server.pid())?;
        let url = format!("{}/w{}", server.addresses.gateway, size - 1);
        let mut per_cpu = Vec::new();
        for _ in 0..bench.options.rounds {
            per_cpu.push(load::round(&url, server.pid(), bench.options.seconds)?.per_cpu_second);
        }
        server.stop()?;
        let measured = Measured {
            per_cpu: median(&mut per_cpu),
            resident,
        };
        let few = smallest.get_or_insert(measured);
        figures.push(bench.more(
            "scale",
            &format!("requests per CPU second among {size} workloads"),
            &format!("among {}", SIZES[0]),
            measured.per_cpu,
            few.per_cpu,
        ));
        let alone = |metric: String, value| bench.alone("scale", &metric, value);
        figures.push(alone(
            format!("MiB resident with {size} idle workloads"),
            resident,
        ));
        figures.push(alone(format!("ms from start to ready with {size}"), ready));
        if size > SIZES[0] {
            #[allow(clippy::cast_precision_loss, reason = "thousands")]
            let each = (resident - few.resident) * 1024.0 / (size - SIZES[0]) as f64;
            figures.push(alone(format!("KiB for each idle workload of {size}"), each));
        }
    }
    Ok(figures)
}

#[derive(Clone, Copy)]
struct Measured {
    per_cpu: f64,
    resident: f64,
}

/// Functions `first` to before `end`, each with a route of its own, all of one component.
fn manifest(first: usize, end: usize) -> String {
    let mut workloads = String::new();
    let mut routes = String::new();
    for n in first..end {
        let _ = writeln!(
            workloads,
            "  w{n}: {{as: function, run: {{wasm: {{component: hello.wasm}}}}}}"
        );
        let _ = writeln!(routes, "    - {{path: /w{n}, to: w{n}}}");
    }
    format!("app: app{first}\nworkloads:\n{workloads}gateway:\n  routes:\n{routes}")
}
