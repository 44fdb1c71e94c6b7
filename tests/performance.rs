//! docs/performance.md is what the `figures` example makes of the figures beside it.

use std::fs;

#[path = "../examples/figures/render.rs"]
mod render;

#[test]
fn the_page_is_made_of_the_figures() {
    let page = render::page(&fs::read_to_string(render::FIGURES).unwrap()).unwrap();
    assert!(page == fs::read_to_string(render::PAGE).unwrap(), "cargo run --release --example figures -- render");
    assert!(page.lines().filter(|line| line.contains("kernel |")).count() > 4);
}
