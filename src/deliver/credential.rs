//! What proves who we are, fetched once and again when it is refused.

use std::sync::Arc;

use tokio::sync::Mutex;

/// A credential and where it comes from.
pub(super) struct Renewable<T> {
    fetch: Arc<dyn Fn() -> Result<T, String> + Send + Sync>,
    /// Whether fetching again may bring another one.
    changes: bool,
    /// Held while a new one is fetched, so that requests on their way at the same time fetch one.
    current: Mutex<Option<T>>,
}

impl<T: Clone + PartialEq + Send + 'static> Renewable<T> {
    /// `fetch` may block. Its error is a sentence without any part of the credential.
    pub(super) fn new(changes: bool, fetch: impl Fn() -> Result<T, String> + Send + Sync + 'static) -> Self {
        Self { fetch: Arc::new(fetch), changes, current: Mutex::default() }
    }

    /// The one to use, fetched if there is none yet.
    pub(super) async fn current(&self) -> Result<T, String> {
        let mut current = self.current.lock().await;
        if let Some(known) = &*current {
            return Ok(known.clone());
        }
        Ok(current.insert(self.fetch().await?).clone())
    }

    /// Another one than that which was refused; `None` where there is none.
    pub(super) async fn renewed(&self, refused: &T) -> Result<Option<T>, String> {
        let mut current = self.current.lock().await;
        if current.as_ref().is_none_or(|known| known == refused) {
            if !self.changes {
                return Ok(None);
            }
            *current = Some(self.fetch().await?);
        }
        Ok(current.clone().filter(|known| known != refused))
    }

    async fn fetch(&self) -> Result<T, String> {
        let fetch = Arc::clone(&self.fetch);
        // What a panic says may quote the credential.
        let panicked = || Err("fetching the credential panicked".to_owned());
        tokio::task::spawn_blocking(move || fetch()).await.unwrap_or_else(|_| panicked())
    }
}
