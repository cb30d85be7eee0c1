//! The story for people.

use super::{Story, facts::Workload};

/// Prints what happened.
pub(super) fn story(story: &Story) {
    println!();
    println!(
        "{:<12} {:<9} {:>8} {:>7} {:>10} {:>10} {:>7}  cold starts (wait, load, spawn, init on average)",
        "workload", "is", "requests", "errors", "p50", "p99", "events"
    );
    for row in &story.workloads {
        println!("{}", line(row));
    }
    println!(
        "\none trace, {} spans:\n{}\n",
        story.trace.spans, story.trace.tree
    );
    println!("promised:");
    for promise in &story.promises {
        let mark = if promise.kept { "kept" } else { "NOT KEPT" };
        println!("  {mark:<9} {}", promise.what);
        if let Some(instead) = &promise.instead {
            println!("            {instead}");
        }
    }
    let seconds = &story.seconds;
    println!(
        "\nbuilt in {:.1} s, deployed in {:.1} s, requests {:.1} s, deliveries {:.1} s",
        seconds.build, seconds.deploy, seconds.requests, seconds.deliveries
    );
}

/// Prints where to look while the server stays.
pub(super) fn stays(story: &Story) {
    let addresses = &story.addresses;
    println!("\nlook at:");
    println!(
        "  {}/live/               the dashboard, live",
        addresses.gateway
    );
    println!("  {}/api/search?q=star   the catalogue", addresses.gateway);
    println!(
        "  {}                     the control API (it wants the operator's token)",
        addresses.control
    );
    println!(
        "  {}                     the AWS endpoint (Lambda)",
        addresses.aws
    );
    println!("  tangelo --data target/demo traces | logs | ps | usage");
    println!("\nCtrl-C ends it.");
}

fn line(row: &Workload) -> String {
    let cold = &row.cold_starts;
    let phase = |sum: u64| micros(sum.checked_div(cold.count).unwrap_or(0));
    let phases = match cold.count {
        0 => "-".to_owned(),
        n => format!(
            "{n} ({}, {}, {}, {})",
            phase(cold.wait_us),
            phase(cold.load_us),
            phase(cold.spawn_us),
            phase(cold.init_us)
        ),
    };
    format!(
        "{:<12} {:<9} {:>8} {:>7} {:>10} {:>10} {:>7}  {phases}",
        row.workload,
        row.tier,
        row.requests,
        row.errors,
        micros(row.p50_us),
        micros(row.p99_us),
        row.events
    )
}

#[allow(
    clippy::cast_precision_loss,
    reason = "microseconds of a demonstration are far below 2^53"
)]
fn micros(micros: u64) -> String {
    match micros {
        0..1_000 => format!("{micros} µs"),
        1_000..1_000_000 => format!("{:.1} ms", micros as f64 / 1e3),
        _ => format!("{:.2} s", micros as f64 / 1e6),
    }
}
