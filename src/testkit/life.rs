//! One life of a house: a gateway, and the runtime that all of it runs on.

use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

use super::Error;
use crate::config::Config;
use crate::gateway::Gateway;
use crate::store;

/// How long what waits for a disk may take to end.
const ENDING: Duration = Duration::from_secs(10);

/// A gateway and what it runs on, which ends first.
pub struct Life {
    ground: Ground,
    pub gateway: Gateway,
}

/// A runtime. When it ends, so does everything that runs on it, wherever it is.
struct Ground(Option<Runtime>);

impl Life {
    /// Starts a gateway.
    pub async fn begin(config: Config) -> Result<Self, Error> {
        let mut builder = Builder::new_multi_thread();
        let runtime = builder.worker_threads(2).thread_name("dormouse").enable_all().build();
        let failed = |source| Error::System { doing: "start the threads", source };
        let ground = Ground(Some(runtime.map_err(failed)?));
        let gateway = ground.run(Gateway::start(config)).await?;
        Ok(Self { ground, gateway })
    }

    /// Does something where the gateway does what it does.
    pub async fn inside<T: Send + 'static>(
        &self,
        what: impl Future<Output = T> + Send + 'static,
    ) -> T {
        self.ground.run(what).await
    }

    /// Ends it as a killed process ends.
    pub async fn crash(self) -> Result<(), store::Error> {
        let Self { ground, gateway } = self;
        aside(move || {
            let store = gateway.context().store.clone();
            drop(ground);
            store.engine().crash()
        })
        .await
    }

    /// Ends it in order.
    pub async fn shutdown(self) {
        let Self { ground, gateway } = self;
        ground.run(gateway.shutdown()).await;
        aside(move || drop(ground)).await;
    }
}

impl Ground {
    async fn run<T: Send + 'static>(&self, what: impl Future<Output = T> + Send + 'static) -> T {
        let runtime = self.0.as_ref().expect("it is there until it is dropped");
        match runtime.spawn(what).await {
            Ok(done) => done,
            Err(error) => std::panic::resume_unwind(error.into_panic()), // nothing cancels it
        }
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let Some(runtime) = self.0.take() else { return };
        // On a thread of its own: a test's runtime does not let itself be held up.
        let _ = thread::spawn(move || runtime.shutdown_timeout(ENDING)).join();
    }
}

/// Does something that takes a while on a thread of its own, whatever runtime the caller has.
async fn aside<T: Send + 'static>(what: impl FnOnce() -> T + Send + 'static) -> T {
    let (tell, told) = oneshot::channel();
    thread::spawn(move || _ = tell.send(what()));
    told.await.expect("what it does does not panic")
}
