//! Parts that are the same in many feeds, kept once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use source_host::contract::Shape;
use source_host::credentials::settings::SettingsPool;
use source_host::digest::ShortDigest;

use super::{AdmittedFeed, FeedProfile};

/// Finds lists, tenant names, profiles, shapes and settings that many feeds share.
#[derive(Default)]
pub struct FeedPool {
    lists: BTreeSet<Arc<[String]>>,
    tenants: BTreeSet<Arc<str>>,
    /// Profiles by the digest of their contents.
    profiles: BTreeMap<ShortDigest, Arc<FeedProfile>>,
    /// Shapes by their text.
    shapes: BTreeMap<String, Arc<[(Shape, usize)]>>,
    settings: SettingsPool,
}

impl FeedPool {
    /// The same feed, in which each part that an earlier feed has, too, is the earlier feed's.
    pub fn share(&mut self, feed: AdmittedFeed) -> AdmittedFeed {
        let FeedPool { shapes, settings, .. } = self;
        let plan = feed.plan.map(|mut plan| {
            plan.shapes = Arc::clone(shapes.entry(format!("{:?}", plan.shapes)).or_insert(plan.shapes));
            plan
        });
        let settings = feed.settings.sharing(settings, &feed.profile.tenant);
        AdmittedFeed { profile: self.profile(&feed.profile), plan, settings, ..feed }
    }

    /// The same feed in new memory, in which only parts of other copies are shared.
    pub fn copy(&mut self, feed: &AdmittedFeed) -> AdmittedFeed {
        let profile = Arc::new((*feed.profile).clone());
        self.share(AdmittedFeed { profile, ..feed.copied() })
    }

    fn profile(&mut self, profile: &FeedProfile) -> Arc<FeedProfile> {
        fn one<T: Ord + ?Sized>(known: &mut BTreeSet<Arc<T>>, value: &Arc<T>, copy: impl Fn(&T) -> Arc<T>) -> Arc<T> {
            if let Some(known) = known.get(value) {
                return Arc::clone(known);
            }
            let value = copy(value);
            known.insert(Arc::clone(&value));
            value
        }
        let FeedProfile { tenant, interval, sinks, contact, origins, in_clear, expiries, .. } = profile;
        let FeedProfile { plugin, identity, allowed, log_bytes, .. } = profile;
        let plugin = &plugin.about().sha256;
        let key = format!(
            "{tenant:?} {interval:?} {sinks:?} {contact:?} {origins:?} {in_clear:?} {expiries:?} {plugin:?} {identity} {allowed:?} {log_bytes}"
        );
        let FeedPool { lists, tenants, profiles, .. } = self;
        let new = || {
            let list = |list: &[String]| list.into();
            let (sinks, origins) = (one(lists, sinks, list), one(lists, origins, list));
            let tenant = one(tenants, tenant, |tenant| tenant.into());
            Arc::new(FeedProfile { tenant, sinks, origins, ..profile.clone() })
        };
        Arc::clone(profiles.entry(ShortDigest::of(&key)).or_insert_with(new))
    }
}
