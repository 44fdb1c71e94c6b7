//! docs/performance.md, made from the figures. A test compares the page with what this makes of them.

use std::fmt::Write;

use serde_json::{Error, Value};

pub(crate) const FIGURES: &str = "docs/performance/veth.json";
pub(crate) const PAGE: &str = "docs/performance.md";

/// The page.
pub(crate) fn page(figures: &str) -> Result<String, Error> {
    let figures: Value = serde_json::from_str(figures)?;
    let machine = &figures["machine"];
    let mut page = format!(
        "# Performance\n\n\
        Ours and the kernel's TCP over the same wire, with the same program around them, in turns.\n\
        This page is made of [performance/veth.json](performance/veth.json): change neither by hand.\n\n\
        ```sh\n\
        cargo build --release --examples\n\
        {} > {FIGURES}    # some three minutes; as root for the TAP\n\
        cargo run --release --example figures -- render    # this page\n\
        ```\n\n\
        - Link: {}. The peer at the other end is the kernel's TCP, but for the row that says both ends.\n\
        - smoltcp has no offloads and no congestion control; it is a source only, with a buffer of 1 MiB.\n\
        - Machine: {}, {} cores, which both ends share; {}.\n\
        - Congestion control: {} in the kernel, {} in synfin.\n\
        - {} rounds of {} s, every TCP once in each; the median, and from the lowest to the highest. A wide span is a machine with other work.\n\
        - Commit {}.\n",
        text(&figures["command"]),
        text(&figures["link"]),
        text(&machine["processor"]),
        machine["cores"],
        text(&machine["kernel"]),
        text(&machine["congestion_control"]["kernel"]),
        text(&machine["congestion_control"]["synfin"]),
        figures["rounds"],
        text(&figures["seconds"]),
        text(&figures["commit"]),
    );
    let rows: &[Value] = figures["measurements"].as_array().map_or(&[], Vec::as_slice);
    for (offloads, title) in [("on", "Checksum and segmentation offloads on"), ("off", "Offloads off")] {
        let rows: Vec<&Value> = rows.iter().filter(|row| row["offloads"] == offloads).collect();
        page += &format!("\n## {title}\n\n| what | TCP | median | span | of the kernel's | CPU s/GB |\n|---|---|---|---|---|---|\n");
        for row in &rows {
            let kernel = rows.iter().find(|other| other["task"] == row["task"] && other["tcp"] == "kernel");
            page += &line(row, kernel.map_or(0.0, |kernel| Sample::of(&kernel["values"]).median));
        }
    }
    page += "\nCPU s/GB is that of the process at the measured end, in user and kernel mode; what the kernel does for it in interrupts counts for nobody.\n";
    Ok(page)
}

fn line(row: &Value, kernels: f64) -> String {
    let sample = Sample::of(&row["values"]);
    let mut line = format!(
        "| {} | {} | {} {} | {} – {}{} | {:.2} |",
        text(&row["task"]),
        text(&row["tcp"]),
        short(sample.median),
        text(&row["unit"]),
        short(sample.least),
        short(sample.most),
        if sample.failed > 0 { format!("; {} failed", sample.failed) } else { String::new() },
        sample.median / kernels,
    );
    let cost =
        if row["cpu_s_per_gb"].is_array() { format!(" {} |\n", short(Sample::of(&row["cpu_s_per_gb"]).median)) } else { " |\n".to_owned() };
    // Writing to a string cannot fail.
    _ = line.write_str(&cost);
    line
}

/// What is shown of several figures.
struct Sample {
    least: f64,
    median: f64,
    most: f64,
    /// Turns without a figure: the program ended with an error.
    failed: usize,
}

impl Sample {
    fn of(values: &Value) -> Self {
        let failed = values.as_array().into_iter().flatten().filter(|value| value.is_null()).count();
        let mut values: Vec<f64> = values.as_array().into_iter().flatten().filter_map(Value::as_f64).collect();
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
        Self { least: at(0), median: at(values.len() / 2), most: at(values.len().saturating_sub(1)), failed }
    }
}

/// Three digits, or all of a large number's.
fn short(value: f64) -> String {
    match value {
        _ if value.is_nan() => "–".to_owned(),
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("unknown")
}
