//! What has to be remembered between facts: what is open, and whose dimensions a later fact has.

use std::collections::HashMap;

use super::exemplar::Place;

/// Turns and threads that are remembered; a fact of one beyond has fewer dimensions, and counts all the same.
const MOST: usize = 16_384;

/// A turn's dimensions.
#[derive(Debug, Clone, Default)]
pub(super) struct Turn {
    pub id: String,
    pub agent: String,
    pub model: Option<String>,
    pub provider: Option<String>,
    pub kind: Option<String>,
    pub client: Option<String>,
}

/// Something that lasts.
#[derive(Debug)]
pub(super) enum Lasting {
    Turn(Turn),
    Tool { name: String, kind: Option<String>, agent: Option<String>, server: Option<String> },
    Compaction { trigger: String, phase: String },
    Connection(u64),
}

/// Something that lasts and has not ended.
#[derive(Debug)]
pub(super) struct Open {
    pub what: Lasting,
    /// Its start, with its own trace and span.
    pub start: Place,
    pub metadata: &'static tracing::Metadata<'static>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    /// By the id of the `tracing` span.
    pub open: HashMap<u64, Open>,
    turns: HashMap<String, Turn>,
    providers: HashMap<String, String>,
    clients: HashMap<u64, String>,
}

impl State {
    pub fn begin_turn(&mut self, turn: &Turn) {
        if self.turns.len() < MOST {
            self.turns.insert(turn.id.clone(), turn.clone());
        }
    }

    pub fn end_turn(&mut self, id: &str) {
        self.turns.remove(id);
    }

    pub fn turn(&self, id: &str) -> Option<&Turn> {
        self.turns.get(id)
    }

    pub fn configure(&mut self, turn: &str, model: Option<&str>, provider: Option<&str>) {
        let Some(known) = self.turns.get_mut(turn) else { return };
        known.model = model.map(str::to_owned).or(known.model.take());
        known.provider = provider.map(str::to_owned).or(known.provider.take());
    }

    pub fn connect(&mut self, connection: u64, client: Option<&str>) {
        if let Some(client) = client.filter(|_| self.clients.len() < MOST) {
            self.clients.insert(connection, client.to_owned());
        }
    }

    pub fn disconnect(&mut self, connection: u64) {
        self.clients.remove(&connection);
    }

    pub fn client(&self, connection: Option<u64>) -> Option<String> {
        self.clients.get(&connection?).cloned()
    }

    pub fn serve(&mut self, thread: &str, provider: Option<&str>) {
        if let Some(provider) = provider.filter(|_| self.providers.len() < MOST) {
            self.providers.insert(thread.to_owned(), provider.to_owned());
        }
    }

    pub fn forget_thread(&mut self, thread: &str) {
        self.providers.remove(thread);
    }

    pub fn provider(&self, thread: &str) -> Option<String> {
        self.providers.get(thread).cloned()
    }
}
