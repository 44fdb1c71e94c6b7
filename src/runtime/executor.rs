//! Everything on one thread: tasks, timers, engine and device.
//!
//! ```text
//!   block_on:   frames in, time in, signals out ─► run ready tasks ─► frames out ─► sleep
//!                        └────────────── one turn of the shard's crank ──────┘
//! ```
//!
//! A task's calls leave their frames to the end of the turn, so that acknowledgements ride on answers.

use std::any::Any;
use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::io;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use async_executor::{LocalExecutor, Task};
use futures::FutureExt;
use futures::future::{AbortHandle, Abortable};

use super::driver::{self, Pace};
use super::poller::{Notifier, Poller};
use super::shard::{Cranking, Output, Turned};
use super::spin::{SPIN_MAX, Spin, cores};
use super::sync::{Arc, Dead};
use super::{Shard, Stack};

/// A stack and an executor on one thread, the one that calls [`block_on`](Self::block_on): the lowest latency.
///
/// ```
/// use synfin::net::{TcpListener, TcpStream};
///
/// # fn main() -> std::io::Result<()> {
/// let runtime = synfin::Runtime::builder().build()?; // without a device: a loopback
/// runtime.block_on(async {
///     let listener = TcpListener::bind("127.0.0.1:0").await?;
///     let address = listener.local_addr()?;
///     let server = synfin::spawn(async move { listener.accept().await });
///     let client = TcpStream::connect(address).await?;
///     let (_stream, peer) = server.await.expect("the task did not panic")?;
///     assert_eq!(peer, client.local_addr()?);
///     Ok(())
/// })
/// # }
/// ```
#[derive(Debug)]
pub struct Runtime {
    executor: Rc<LocalExecutor<'static>>,
    poller: RefCell<Poller>,
    pace: Pace,
    /// Dropped last, when the tasks have dropped their streams.
    stack: Driven,
}

impl Runtime {
    pub(super) fn new(stack: Stack, poller: Poller, pace: Pace) -> Self {
        Self { executor: Rc::new(LocalExecutor::new()), poller: RefCell::new(poller), pace, stack: Driven(stack) }
    }

    /// The runtime's stack.
    #[must_use]
    pub const fn stack(&self) -> &Stack {
        &self.stack.0
    }

    /// Adds a task. It runs while [`block_on`](Self::block_on) does.
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        spawn_on(&self.executor, future)
    }

    /// Runs tasks until `future` has ended.
    ///
    /// # Panics
    /// When called from inside itself; and when `future` panics.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        let mut poller = self.poller.try_borrow_mut().expect("block_on is not called from inside a task of the same runtime");
        let shard = self.stack.0.shard();
        let _context = Running::enter(self);
        let _cranking = Cranking::new(shard);
        let bell = Arc::new(Bell { rung: AtomicBool::new(true), asleep: AtomicBool::new(false), notifier: poller.notifier() });
        let waker = Waker::from(Arc::clone(&bell));
        let mut context = Context::from_waker(&waker);
        let mut rest = Rest { spin: Spin::default(), pace: self.pace };
        let mut tasks = pin!(self.executor.run(future));
        loop {
            let taken_in = shard.take_in(Output::Later);
            if bell.rung.swap(false, Ordering::SeqCst)
                && let Poll::Ready(output) = tasks.as_mut().poll(&mut context)
            {
                // What the last tasks have written leaves; on a dead stack nothing does.
                _ = shard.put_out();
                return output;
            }
            let turned = taken_in.and_then(|taken_in| Ok(if shard.put_out()? == Turned::Busy { Turned::Busy } else { taken_in }));
            rest.until_rung(shard, &mut poller, &bell, turned);
        }
    }
}

/// What happens between two turns.
struct Rest {
    spin: Spin,
    pace: Pace,
}

impl Rest {
    /// Spins if that pays, then sleeps, unless there is something to do.
    fn until_rung(&mut self, shard: &Shard, poller: &mut Poller, bell: &Bell, turned: Result<Turned, Dead>) {
        let start = shard.now();
        if bell.is_rung() {
            self.spin.on_arrival(start);
            return;
        }
        if turned == Ok(Turned::Idle) && self.pace == Pace::Sleeping && self.spin.is_worthwhile() && cores() > 1 {
            shard.counters.spins.add(1);
            while shard.now() - start < SPIN_MAX {
                if shard.take_in(Output::Later).is_err() || bell.is_rung() {
                    shard.counters.spins_paid.add(1);
                    return;
                }
                std::hint::spin_loop();
            }
            self.spin.on_barren(start);
        }
        self.spin.on_park(start);
        bell.asleep.store(true, Ordering::SeqCst);
        let turned = if bell.is_rung() { Ok(Turned::Busy) } else { turned };
        let slept = turned.map_err(io::Error::from).and_then(|turned| driver::sleep(shard, poller, self.pace, turned));
        if slept.is_err() {
            // The stack is dead: everybody learns of it, and the tasks go on without.
            shard.die();
            if !bell.is_rung() {
                _ = poller.wait(None);
            }
        }
        bell.asleep.store(false, Ordering::SeqCst);
    }
}

/// Wakes the thread in `block_on`.
struct Bell {
    rung: AtomicBool,
    asleep: AtomicBool,
    notifier: Arc<Notifier>,
}

impl Bell {
    fn is_rung(&self) -> bool {
        self.rung.load(Ordering::SeqCst)
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::SeqCst);
        if self.asleep.load(Ordering::SeqCst) {
            self.notifier.notify();
        }
    }
}

/// A stack whose driver is a runtime: without it, nothing moves.
#[derive(Debug)]
struct Driven(Stack);

impl Drop for Driven {
    fn drop(&mut self) {
        _ = self.0.shard().put_out();
        self.0.shard().die();
    }
}

/// The runtime that runs on this thread.
struct Running {
    previous: Option<(Stack, Rc<LocalExecutor<'static>>)>,
}

impl Running {
    fn enter(runtime: &Runtime) -> Self {
        let running = (runtime.stack.0.clone(), Rc::clone(&runtime.executor));
        Self { previous: RUNNING.replace(Some(running)) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        RUNNING.set(self.previous.take());
    }
}

thread_local! {
    static RUNNING: RefCell<Option<(Stack, Rc<LocalExecutor<'static>>)>> = const { RefCell::new(None) };
}

/// The stack of the runtime that runs on this thread.
pub(super) fn current_stack() -> Option<Stack> {
    RUNNING.with_borrow(|running| running.as_ref().map(|(stack, _)| stack.clone()))
}

/// Adds a task to the [`Runtime`] that runs the caller. It need not be `Send`.
///
/// # Panics
/// Outside of [`Runtime::block_on`].
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// let runtime = synfin::Runtime::builder().build()?;
/// let sum = runtime.block_on(async {
///     let tasks = [1, 2, 3].map(|n| synfin::spawn(async move { n * n }));
///     futures::future::try_join_all(tasks).await.expect("no task panicked").into_iter().sum::<i32>()
/// });
/// assert_eq!(sum, 14);
/// # Ok(()) }
/// ```
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    let executor = RUNNING.with_borrow(|running| running.as_ref().map(|(_, executor)| Rc::clone(executor)));
    let executor = executor.expect("synfin::spawn is called from inside synfin::Runtime::block_on; other executors have their own spawn");
    spawn_on(&executor, future)
}

fn spawn_on<F>(executor: &LocalExecutor<'static>, future: F) -> JoinHandle<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    let (abort, registration) = AbortHandle::new_pair();
    // A panic is the result of its task: nothing of the task is seen afterwards but the message.
    let future = Abortable::new(AssertUnwindSafe(future).catch_unwind(), registration);
    let task = executor.spawn(async move {
        match future.await {
            Ok(Ok(output)) => Ok(output),
            Ok(Err(panic)) => Err(JoinError { cause: Cause::Panicked(panic) }),
            Err(_aborted) => Err(JoinError { cause: Cause::Cancelled }),
        }
    });
    JoinHandle { task: Some(task), abort }
}

/// A task's result to come. Dropping it lets the task run on.
#[derive(Debug)]
pub struct JoinHandle<T> {
    task: Option<Task<Result<T, JoinError>>>,
    abort: AbortHandle,
}

impl<T> JoinHandle<T> {
    /// Ends the task at its next `.await`.
    pub fn abort(&self) {
        self.abort.abort();
    }

    /// True if the task has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.task.as_ref().is_none_or(Task::is_finished)
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let task = self.task.as_mut().expect("the task is taken only by drop");
        Pin::new(task).poll(context)
    }
}

impl<T> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.detach();
        }
    }
}

/// Why a task has no result.
pub struct JoinError {
    cause: Cause,
}

enum Cause {
    Cancelled,
    Panicked(Box<dyn Any + Send>),
}

impl JoinError {
    /// The task was [aborted](JoinHandle::abort).
    #[must_use]
    pub const fn is_cancelled(&self) -> bool {
        matches!(self.cause, Cause::Cancelled)
    }

    /// The task panicked.
    #[must_use]
    pub const fn is_panic(&self) -> bool {
        matches!(self.cause, Cause::Panicked(_))
    }

    /// What the task panicked with; the error itself if it did not.
    ///
    /// # Errors
    /// The error itself, if the task was aborted.
    pub fn try_into_panic(self) -> Result<Box<dyn Any + Send>, Self> {
        match self.cause {
            Cause::Panicked(panic) => Ok(panic),
            Cause::Cancelled => Err(self),
        }
    }

    fn message(&self) -> Option<&str> {
        let Cause::Panicked(panic) = &self.cause else { return None };
        panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str))
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.cause, self.message()) {
            (Cause::Cancelled, _) => f.write_str("the task was aborted"),
            (Cause::Panicked(_), Some(message)) => write!(f, "the task panicked: {message}"),
            (Cause::Panicked(_), None) => f.write_str("the task panicked"),
        }
    }
}

impl fmt::Debug for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinError({self})")
    }
}

impl std::error::Error for JoinError {}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::runtime::time;

    fn runtime() -> Runtime {
        Runtime::builder().build().expect("a loopback runtime")
    }

    #[test]
    fn tasks_and_timers_share_the_thread() {
        let runtime = runtime();
        let here = std::thread::current().id();
        let there = runtime.block_on(async {
            spawn(async {
                time::sleep(Duration::from_millis(2)).await;
                std::thread::current().id()
            })
            .await
        });
        assert_eq!(there.expect("no panic"), here);
    }

    #[test]
    fn a_panic_is_reported_to_whoever_joins() {
        let error = runtime().block_on(async { spawn(async { panic!("planted") }).await }).expect_err("it panicked");
        assert!(error.is_panic());
        assert_eq!(error.to_string(), "the task panicked: planted");
    }

    #[test]
    fn an_aborted_task_ends() {
        let error = runtime().block_on(async {
            let task = spawn(std::future::pending::<()>());
            task.abort();
            task.await.expect_err("it was aborted")
        });
        assert!(error.is_cancelled());
    }

    #[test]
    fn a_wake_from_another_thread_ends_the_sleep() {
        let (sender, receiver) = futures::channel::oneshot::channel();
        std::thread::spawn(move || {
            futures::executor::block_on(time::sleep(Duration::from_millis(5)));
            sender.send(7)
        });
        assert_eq!(runtime().block_on(receiver), Ok(7));
    }
}
