//! The cases over ours.

use synfin::net;

#[path = "../cases.rs"]
mod cases;
