//! Counts the allocations of a thread, and the memory that the process holds.

#![expect(unsafe_code, reason = "an allocator is called by unsafe functions; this one passes all calls on")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicI64, Ordering};

/// Returns the number of allocations of `work`, which stays on this thread.
pub fn of(work: impl FnOnce()) -> u64 {
    let before = COUNT.get();
    work();
    COUNT.get() - before
}

/// Returns the bytes that all threads hold at this moment, with the overhead of the C library's heap.
pub fn held() -> i64 {
    HELD.load(Ordering::SeqCst)
}

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

static HELD: AtomicI64 = AtomicI64::new(0);

#[global_allocator]
static COUNTING: Counting = Counting;

struct Counting;

/// The bytes of a piece of the heap: its size is written before it, and pieces have multiples of 16 bytes, at least 32.
fn piece(size: usize) -> i64 {
    ((size + 8).next_multiple_of(16).max(32)) as i64
}

fn count(bytes: i64) {
    HELD.fetch_add(bytes, Ordering::Relaxed);
}

fn count_allocation() {
    // A thread that ends has no counter any more.
    let _ = COUNT.try_with(|count| count.set(count.get() + 1));
}

unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count_allocation();
        count(piece(layout.size()));
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        count(-piece(layout.size()));
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count_allocation();
        count(piece(size) - piece(layout.size()));
        unsafe { System.realloc(place, layout, size) }
    }
}
