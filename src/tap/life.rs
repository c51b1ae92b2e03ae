//! What the threads know of the child, and who waits for what.

use std::process::{Child, ExitStatus};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};

/// What the threads know of the child.
#[derive(Default)]
pub(super) struct Life {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// None once it has ended: its number may then be somebody else's.
    child: Option<Pid>,
    drained: bool,
    told_to_end: bool,
}

impl Life {
    /// Without a child: the first signal that ends anything ends us.
    pub(super) fn alone() -> Life {
        Life::default()
    }

    pub(super) fn of(child: &Child) -> Life {
        let state = State { child: Some(Pid::from_child(child)), drained: false, told_to_end: false };
        Life { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// A signal has come: to the child if it was meant for us alone. Without a child, it ends the last wait.
    pub(super) fn signal(&self, signal: Signal, for_child: bool, ends_us: bool) {
        let mut state = self.lock();
        match state.child {
            Some(child) if for_child => drop(rustix::process::kill_process(child, signal)),
            Some(_) => {}
            None => {
                state.told_to_end |= ends_us;
                self.changed.notify_all();
            }
        }
    }

    /// Waits for the child's end, and takes its status.
    pub(super) fn wait_for(&self, child: &mut Child) -> Option<ExitStatus> {
        let of = WaitId::Pid(Pid::from_child(child));
        // It is left a zombie until no signal can be sent to it any more, so that its number stays its own.
        while let Err(Errno::INTR) =
            rustix::process::waitid(of.clone(), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)
        {}
        let mut state = self.lock();
        state.child = None;
        child.wait().ok()
    }

    pub(super) fn drained(&self) {
        self.lock().drained = true;
        self.changed.notify_all();
    }

    /// Waits until what the child wrote is relayed, which takes as long as our reader does, as it would for the
    /// child; a signal ends the wait, as it would have ended the child.
    pub(super) fn wait_until_drained(&self) {
        let mut state = self.lock();
        while !state.drained && !state.told_to_end {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits until a signal has said that it is time.
    pub(super) fn wait_until_told(&self) {
        let mut state = self.lock();
        while !state.told_to_end {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Whether there is no child any more.
    pub(super) fn child_is_gone(&self) -> bool {
        self.lock().child.is_none()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
