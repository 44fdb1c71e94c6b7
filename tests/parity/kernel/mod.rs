//! The cases over the kernel's TCP: what they expect is what it does.

use tokio::net;

#[path = "../cases.rs"]
#[expect(clippy::duplicate_mod, reason = "the point of this test: the same text over two implementations")]
mod cases;
