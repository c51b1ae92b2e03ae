//! Work that takes a while, on a thread where it delays no other route.

use std::panic::resume_unwind;

/// What `call` makes. Its panic goes on here, in the task of the request, where the route counts it.
pub(super) async fn aside<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(call).await.map_err(|error| error.try_into_panic()) {
        Ok(made) => made,
        Err(Ok(panic)) => resume_unwind(panic),
        // Only a runtime that shuts down cancels it, and then nobody waits for what it makes.
        Err(Err(_)) => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_there_is_a_panic_here() {
        assert_eq!(aside(|| 7).await, 7);
        let broken = tokio::spawn(aside(|| assert_eq!(1, 2, "as told"))).await;
        assert!(broken.is_err_and(|error| error.is_panic()));
    }
}
