//! The values that enter a guest, for tests that look for values that must not enter: the arguments of a call, and the
//! answers to its requests and to its calls of host functions. Nothing enters in another way.

use std::sync::Arc;

use crate::contract::{Context, PollResult, Scope};
use crate::plugin::Plugin;

/// A callback for every value that is about to enter a guest, with its place and its bytes.
pub type Tap = Arc<dyn Fn(&str, &[u8]) + Send + Sync>;

/// Returns the plugin with every value that enters it shown to a test.
pub fn tapped(plugin: Plugin, tap: Tap) -> Plugin {
    Plugin { tap: Some(tap), ..plugin }
}

/// An argument of a call. A value that cannot be shown cannot be passed to a guest.
pub(super) trait Enters {
    /// Shows all texts and bytes of the argument.
    fn enters(&self, show: &mut dyn FnMut(&[u8]));
}

impl<T: Enters + ?Sized> Enters for &T {
    fn enters(&self, show: &mut dyn FnMut(&[u8])) {
        (**self).enters(show);
    }
}

impl<T: Enters> Enters for Option<T> {
    fn enters(&self, show: &mut dyn FnMut(&[u8])) {
        if let Some(value) = self {
            value.enters(show);
        }
    }
}

impl Enters for [u8] {
    fn enters(&self, show: &mut dyn FnMut(&[u8])) {
        show(self);
    }
}

impl Enters for str {
    fn enters(&self, show: &mut dyn FnMut(&[u8])) {
        show(self.as_bytes());
    }
}

impl Enters for String {
    fn enters(&self, show: &mut dyn FnMut(&[u8])) {
        show(self.as_bytes());
    }
}

impl Enters for Scope {
    fn enters(&self, show: &mut dyn FnMut(&[u8])) {
        let Scope { id, name, owner, plugin_data } = self;
        [Some(id), name.as_ref(), owner.as_ref(), Some(plugin_data)]
            .into_iter()
            .flatten()
            .for_each(|text| text.enters(show));
    }
}

impl Enters for Context {
    fn enters(&self, show: &mut dyn FnMut(&[u8])) {
        let Context { feed, tenant, scope, poll_id, collected_at_milliseconds: _ } = self;
        [feed, tenant, poll_id].into_iter().for_each(|text| text.enters(show));
        scope.enters(show);
    }
}

impl Enters for PollResult {
    fn enters(&self, show: &mut dyn FnMut(&[u8])) {
        match self {
            PollResult::Pages(pages) => {
                for page in pages {
                    page.kind.enters(show);
                    page.body.as_slice().enters(show);
                }
            }
            PollResult::Failure(failure) => format!("{failure:?}").enters(show),
        }
    }
}
