//! Memory that held a secret is wiped before it is freed: the test's allocator inspects each freed block.
#![expect(unsafe_code, reason = "an allocator is unsafe to implement; this one leaves all to the system's")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

use source_host::credentials::secret::{self, Secret};
use source_host::credentials::{assertion, certificates};

const SECRET: &str = "eyJzZWNyZXQiOiJhLXNlY3JldC1vZi10ZXN0cyJ9";
const DECODED: &str = r#"{"secret":"a-secret-of-tests"}"#;

static FREED_WITH_SECRET: AtomicUsize = AtomicUsize::new(0);

struct Watching;

// SAFETY: each call goes unchanged to the system's allocator; a block is only read, while it is still allocated.
unsafe impl GlobalAlloc for Watching {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // The block is zeroed, so that all its bytes may be read.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let bytes = unsafe { std::slice::from_raw_parts(block, layout.size()) };
        let holds = |words: &str| bytes.windows(words.len()).any(|window| window == words.as_bytes());
        if holds(SECRET) || holds(DECODED) {
            FREED_WITH_SECRET.fetch_add(1, Ordering::Relaxed);
        }
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Watching = Watching;

fn check_freed(what: &str, expected: usize, action: impl FnOnce()) {
    let before = FREED_WITH_SECRET.load(Ordering::Relaxed);
    action();
    assert_eq!(FREED_WITH_SECRET.load(Ordering::Relaxed) - before, expected, "{what}");
}

#[test]
fn a_secret_leaves_nothing_in_memory_that_is_freed() {
    let folder = tempfile::tempdir().unwrap();
    let [value, token, marked, key] = ["value", "token", "marked", "key"].map(|name| folder.path().join(name));
    fs::write(&value, SECRET).unwrap();
    fs::write(&token, [SECRET, SECRET, SECRET].join(".")).unwrap();
    fs::write(&marked, ["\u{feff}", SECRET, ".", SECRET, ".", SECRET].concat()).unwrap();
    fs::write(&key, format!("-----BEGIN PRIVATE KEY-----\n{SECRET}\n-----END PRIVATE KEY-----\n")).unwrap();

    check_freed("a plain text", 1, || drop(SECRET.to_owned()));
    check_freed("a secret and its clone", 0, || drop(Secret::new(SECRET).clone()));
    check_freed("the text of a file", 0, || drop(secret::read(&value).unwrap()));
    for token in [&token, &marked] {
        check_freed("a token in a file", 0, || drop(assertion::read_token(token).unwrap()));
    }
    check_freed("a key in PEM", 0, || {
        let parts = certificates::parts(&secret::read(&key).unwrap());
        assert_eq!(parts[0].der.as_ref().unwrap().as_slice(), DECODED.as_bytes());
    });
}
