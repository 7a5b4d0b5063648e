//! Work that is finished even when its client goes away.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::runtime::Handle;

/// A future that costs nothing more than any other while somebody waits for it. When it is dropped before it is done, it
/// calls `abandoned` and goes on as a task of its own.
pub(super) struct Detached<F, A>
where
    F: Future + Send + 'static,
    F::Output: Send,
    A: FnOnce(),
{
    /// `None` once it is done.
    left: Option<(Pin<Box<F>>, A)>,
}

impl<F, A> Detached<F, A>
where
    F: Future + Send + 'static,
    F::Output: Send,
    A: FnOnce(),
{
    pub(super) fn new(future: F, abandoned: A) -> Self {
        Self {
            left: Some((Box::pin(future), abandoned)),
        }
    }
}

impl<F, A> Future for Detached<F, A>
where
    F: Future + Send + 'static,
    F::Output: Send,
    A: FnOnce() + Unpin,
{
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some((future, _)) = &mut self.left else {
            return Poll::Pending;
        };
        let polled = future.as_mut().poll(context);
        if polled.is_ready() {
            self.left = None;
        }
        polled
    }
}

impl<F, A> Drop for Detached<F, A>
where
    F: Future + Send + 'static,
    F::Output: Send,
    A: FnOnce(),
{
    fn drop(&mut self) {
        let Some((future, abandoned)) = self.left.take() else {
            return;
        };
        abandoned();
        // Without a runtime the process is ending, and nobody can wait for anything any more.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(future);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use futures_util::FutureExt as _;
    use tokio::sync::{Notify, oneshot};

    use super::*;

    #[tokio::test]
    async fn work_that_is_waited_for_is_not_abandoned() {
        let work = Detached::new(async { 7 }, || unreachable!());
        assert_eq!(work.await, 7);
    }

    #[tokio::test]
    async fn work_whose_client_goes_is_done_to_its_end() {
        let go = Arc::new(Notify::new());
        let (done, finished) = oneshot::channel();
        let abandoned = Arc::new(AtomicBool::new(false));
        let work = {
            let (go, abandoned) = (Arc::clone(&go), Arc::clone(&abandoned));
            Detached::new(
                async move {
                    go.notified().await;
                    done.send(()).unwrap();
                },
                move || abandoned.store(true, Ordering::SeqCst),
            )
        };
        let mut work = Box::pin(work);
        assert!(work.as_mut().now_or_never().is_none());
        drop(work);
        assert!(abandoned.load(Ordering::SeqCst));
        go.notify_one();
        finished.await.unwrap();
    }
}
