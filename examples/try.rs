use factline::{fact::Capture, jsonl::JsonLines, otel, replay::replay, transcript::Transcript};
use std::sync::Arc;
use tracing_subscriber::prelude::*;
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let sink = Arc::new(JsonLines::create(args[1].as_ref()).unwrap());
    let layer = otel::layer(sink.clone(), otel::Resource::new("codex-app-server"));
    let filter = tracing_subscriber::EnvFilter::new(std::env::var("F").unwrap_or("info".into()));
    let s = tracing_subscriber::registry().with(layer.with_filter(filter));
    tracing::subscriber::with_default(s, || {
        for t in &args[2..] {
            let mut t = Transcript::open(t.as_ref()).unwrap();
            let r = replay(&mut t, Capture::NONE, |_| true).unwrap();
            eprintln!("{r:?}");
        }
    });
    println!("{:?}", sink.finish());
}
