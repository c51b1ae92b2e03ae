//! What an idle thread costs, counted by the allocator.
#![cfg(feature = "analytics")]
#![allow(unsafe_code)] // an allocator that counts

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use factline::analytics::{Limits, Reducer};
use factline::fact::vocabulary::{
    ConnectionStart, Fact, ThreadInitialized, TurnConfigured, TurnEnd, TurnStart,
};
use factline::fact::{End, Envelope};

struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);

unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_USE.fetch_add(layout.size(), Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn an_idle_thread_costs_at_most_two_kibibytes() {
    const THREADS: usize = 50_000;
    let mut reducer = Reducer::new(Limits { threads: THREADS, window: 1, ..Limits::default() });
    let connection = ConnectionStart {
        connection_id: 1,
        transport: "stdio".into(),
        client_name: Some("ide".into()),
        product_client_id: Some("ide".into()),
        ..ConnectionStart::default()
    };
    reducer.reduce(&Envelope::default(), &Fact::ConnectionStart(connection));
    let before = IN_USE.load(Ordering::Relaxed);
    let mut events = 0;
    for at in 0..THREADS {
        events += one_thread(&mut reducer, at);
    }
    let each = (IN_USE.load(Ordering::Relaxed) - before) / THREADS;
    println!("{each} bytes for an idle thread");
    assert_eq!((events, reducer.threads()), (THREADS * 2, THREADS));
    assert!(each <= 2048, "{each} bytes");
}

fn one_thread(reducer: &mut Reducer, at: usize) -> usize {
    let (thread, turn) =
        (format!("01a201f3-1c6c-7603-bce4-{at:012x}"), format!("01a201f3-1cb0-7ac3-98a2-{at:012x}"));
    let envelope = Envelope { time: at as u64, ..Envelope::default() };
    let initialized = ThreadInitialized {
        thread_id: thread.clone().into(),
        session_id: Some(thread.clone().into()),
        connection_id: Some(1),
        mode: "new".into(),
        model: Some("gpt-5.5".into()),
        provider: Some("openai".into()),
        sandbox_mode: Some("workspaceWrite".into()),
        approval_policy: Some("on-request".into()),
        originator: Some("ide".into()),
        source: Some("user".into()),
        ..ThreadInitialized::default()
    };
    let start = Fact::TurnStart(TurnStart {
        thread_id: thread.clone().into(),
        turn_id: turn.clone().into(),
        ..TurnStart::default()
    });
    // A turn that changes a setting gives its thread settings of its own.
    let configured = TurnConfigured {
        thread_id: thread.into(),
        turn_id: turn.into(),
        reasoning_effort: Some(format!("effort {at}").into()),
        ..TurnConfigured::default()
    };
    let end = Fact::TurnEnd(TurnEnd { status: "completed".into(), ..TurnEnd::default() });
    reducer.reduce(&envelope, &Fact::ThreadInitialized(initialized)).len()
        + reducer.reduce(&envelope, &start).len()
        + reducer.reduce(&envelope, &Fact::TurnConfigured(configured)).len()
        + reducer.finish(&envelope, &start, &End { time: at as u64 + 1, ..End::default() }, &end).len()
}
