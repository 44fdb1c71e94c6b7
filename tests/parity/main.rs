//! One body of tests, compiled against `tokio::net` and against `synfin::net`: what a program relies on when it changes the path.

mod kernel;
mod userspace;
