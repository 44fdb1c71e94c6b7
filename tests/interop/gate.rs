//! A wire with a gate on the stack's side: frames that the stack sends can be held back, all or from the first FIN on, and let go in order;
//! or its TCP is swallowed, as a black hole does.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};

use synfin::device::{Device, Receiver, Transmitter};
use synfin::proto::TxFrame;

use crate::lab::Opened;

/// What happens to frames that the stack sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    Pass,
    /// Nothing passes from now on.
    Hold,
    /// Nothing passes from the first FIN on.
    HoldFromFin,
    /// TCP is lost; neighbours are still found.
    SwallowTcp,
}

/// Sets the rule of a [`Gated`] device.
#[derive(Clone)]
pub(crate) struct Gate {
    inside: Arc<Mutex<Inside>>,
}

struct Inside {
    rule: Rule,
    held: VecDeque<TxFrame>,
    wire: Option<Box<dyn Transmitter>>,
}

impl Gate {
    pub(crate) fn new(rule: Rule) -> Self {
        Self { inside: Arc::new(Mutex::new(Inside { rule, held: VecDeque::new(), wire: None })) }
    }

    /// The device that this gate controls.
    pub(crate) fn around(&self, device: Opened) -> Gated {
        Gated { device, gate: self.clone() }
    }

    /// Changes the rule, and lets go of what is held.
    pub(crate) fn set(&self, rule: Rule) {
        let mut inside = self.inside.lock().expect("no panic");
        inside.rule = rule;
        let Inside { held, wire, .. } = &mut *inside;
        wire.as_mut().expect("the stack has split its device").transmit(held).expect("room for a few frames");
    }
}

/// A device behind a [`Gate`].
pub(crate) struct Gated {
    device: Opened,
    gate: Gate,
}

impl Device for Gated {
    fn split(self: Box<Self>) -> (Box<dyn Receiver>, Box<dyn Transmitter>) {
        let (receiver, transmitter) = Box::new(self.device).split();
        self.gate.inside.lock().expect("no panic").wire = Some(transmitter);
        (receiver, Box::new(self.gate))
    }
}

impl Transmitter for Gate {
    fn transmit(&mut self, frames: &mut VecDeque<TxFrame>) -> io::Result<()> {
        let mut inside = self.inside.lock().expect("no panic");
        let Inside { rule, held, wire } = &mut *inside;
        match rule {
            Rule::Hold => held.extend(frames.drain(..)),
            Rule::HoldFromFin => {
                if let Some(at) = frames.iter().position(is_fin) {
                    held.extend(frames.drain(at..));
                    *rule = Rule::Hold;
                }
            }
            Rule::SwallowTcp => frames.retain(|frame| frame.transport_offset == 0),
            Rule::Pass => {}
        }
        wire.as_mut().expect("split puts it there").transmit(frames)
    }
}

/// True for a TCP frame with FIN; only TCP has its checksum left to be completed.
fn is_fin(frame: &TxFrame) -> bool {
    let flags = frame.header().get(usize::from(frame.transport_offset) + 13);
    frame.transport_offset != 0 && flags.is_some_and(|flags| flags & 1 != 0)
}
