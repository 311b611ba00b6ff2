//! Parts that are the same in many feeds, kept once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use source_host::contract::Shape;

use crate::admitted::AdmittedFeed;

/// Interns lists, tenant names and shapes that many feeds share.
#[derive(Default)]
pub(super) struct Interned {
    lists: BTreeSet<Arc<[String]>>,
    tenants: BTreeSet<Arc<str>>,
    /// Shapes by their text.
    shapes: BTreeMap<String, Arc<[(Shape, usize)]>>,
}

impl Interned {
    pub(super) fn of(&mut self, feed: AdmittedFeed) -> AdmittedFeed {
        fn one<T: Ord + ?Sized>(known: &mut BTreeSet<Arc<T>>, value: Arc<T>) -> Arc<T> {
            if let Some(known) = known.get(&value) {
                return Arc::clone(known);
            }
            known.insert(Arc::clone(&value));
            value
        }
        let Interned { lists, tenants, shapes } = self;
        let plan = feed.plan.map(|mut plan| {
            plan.shapes = Arc::clone(shapes.entry(format!("{:?}", plan.shapes)).or_insert(plan.shapes));
            plan
        });
        let (sinks, origins) = (one(lists, feed.sinks), one(lists, feed.origins));
        AdmittedFeed { sinks, origins, plan, tenant: one(tenants, feed.tenant), ..feed }
    }
}
