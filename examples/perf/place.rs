//! The three TCPs under one set of names: a stack under tokio, our runtime, and the kernel through tokio.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use synfin::Stack;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The word on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backend {
    Synfin,
    Runtime,
    Tokio,
}

impl Backend {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Synfin => "synfin",
            Self::Runtime => "runtime",
            Self::Tokio => "tokio",
        }
    }
}

impl FromStr for Backend {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let backends = [Self::Synfin, Self::Runtime, Self::Tokio];
        backends.into_iter().find(|backend| backend.name() == text).ok_or_else(|| "synfin, runtime or tokio".to_owned())
    }
}

/// A TCP that has been started, and the executor around it.
#[derive(Clone)]
pub(crate) enum Place {
    Stack(Stack),
    Runtime(Stack),
    /// With the congestion control that it is to use, if not its default.
    Kernel(Option<String>),
}

impl Place {
    pub(crate) async fn connect(&self, remote: SocketAddr) -> io::Result<Stream> {
        match self {
            Self::Stack(stack) | Self::Runtime(stack) => stack.connect(remote).await.map(Stream::Ours),
            Self::Kernel(congestion) => {
                let stream = tokio::net::TcpStream::connect(remote).await?;
                if let Some(name) = congestion {
                    socket2::SockRef::from(&stream).set_tcp_congestion(name.as_bytes())?;
                }
                Ok(Stream::Kernel(stream))
            }
        }
    }

    pub(crate) async fn listen(&self, local: SocketAddr) -> io::Result<Listener> {
        match self {
            Self::Stack(stack) | Self::Runtime(stack) => stack.listen(local).await.map(Listener::Ours),
            Self::Kernel(_) => tokio::net::TcpListener::bind(local).await.map(Listener::Kernel),
        }
    }

    /// Starts a task; the handle waits for its end, and may be dropped.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> impl Future<Output = ()> + Send {
        let (done, end) = futures::channel::oneshot::channel::<()>();
        let task = async move {
            task.await;
            drop(done);
        };
        match self {
            Self::Runtime(_) => drop(synfin::spawn(task)),
            Self::Stack(_) | Self::Kernel(_) => drop(tokio::spawn(task)),
        }
        // The sender is dropped with the task, whether it has ended or panicked.
        async move { _ = end.await }
    }

    pub(crate) async fn sleep(&self, duration: Duration) {
        match self {
            Self::Runtime(_) => synfin::time::sleep(duration).await,
            Self::Stack(_) | Self::Kernel(_) => tokio::time::sleep(duration).await,
        }
    }

    /// Says goodbye to the peers: the end of a process sends nothing for our stack, and the kernel does so by itself.
    pub(crate) async fn shutdown(&self, deadline: Duration) {
        if let Self::Stack(stack) | Self::Runtime(stack) = self {
            // Peers that do not agree in time are told by a reset.
            let _ = stack.shutdown(deadline).await;
        }
    }
}

pub(crate) enum Listener {
    Ours(synfin::net::TcpListener),
    Kernel(tokio::net::TcpListener),
}

impl Listener {
    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Ours(listener) => listener.local_addr(),
            Self::Kernel(listener) => listener.local_addr(),
        }
    }

    pub(crate) async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Ours(listener) => listener.accept().await.map(|(stream, _)| Stream::Ours(stream)),
            Self::Kernel(listener) => listener.accept().await.map(|(stream, _)| Stream::Kernel(stream)),
        }
    }
}

pub(crate) enum Stream {
    Ours(synfin::net::TcpStream),
    Kernel(tokio::net::TcpStream),
}

impl Stream {
    /// Small writes leave at once, on either TCP.
    pub(crate) fn set_nodelay(&self) -> io::Result<()> {
        match self {
            Self::Ours(stream) => stream.set_nodelay(true),
            Self::Kernel(stream) => stream.set_nodelay(true),
        }
    }

    pub(crate) async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Ours(stream) => stream.read(buffer).await,
            Self::Kernel(stream) => stream.read(buffer).await,
        }
    }

    pub(crate) async fn read_exact(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        match self {
            Self::Ours(stream) => stream.read_exact(buffer).await.map(drop),
            Self::Kernel(stream) => stream.read_exact(buffer).await.map(drop),
        }
    }

    pub(crate) async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Ours(stream) => stream.write_all(bytes).await,
            Self::Kernel(stream) => stream.write_all(bytes).await,
        }
    }

    /// Sends the question and reads the answer; one that fits no buffer on the way is read while it is written.
    pub(crate) async fn exchange(&mut self, question: &[u8], answer: &mut [u8]) -> io::Result<()> {
        if question.len() <= SMALL_LEN {
            self.write_all(question).await?;
            return self.read_exact(answer).await;
        }
        match self {
            Self::Ours(stream) => {
                let (mut read, mut write) = stream.split();
                futures::try_join!(write.write_all(question), read.read_exact(answer)).map(drop)
            }
            Self::Kernel(stream) => {
                let (mut read, mut write) = stream.split();
                futures::try_join!(write.write_all(question), read.read_exact(answer)).map(drop)
            }
        }
    }

    /// Ends our half.
    pub(crate) async fn finish(&mut self) -> io::Result<()> {
        match self {
            Self::Ours(stream) => stream.shutdown().await,
            Self::Kernel(stream) => stream.shutdown().await,
        }
    }

    /// Waits for the end of the peer's half, where nothing more is due.
    pub(crate) async fn expect_end(&mut self) -> io::Result<()> {
        match self.read(&mut [0]).await? {
            0 => Ok(()),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "the peer says more than it was asked")),
        }
    }
}

/// Bytes that any send buffer takes in one piece.
const SMALL_LEN: usize = 1 << 14;
