//! Counts by kind that take little memory while only one kind occurs, as for most feeds most of the time.

/// Counts of `N` kinds, which stop at the largest number that they can hold.
#[derive(Debug, Clone, Default)]
pub struct Kinds<const N: usize> {
    /// The kind that occurred first, and its count.
    first: u8,
    count: u32,
    /// The counts of the other kinds, if one of them occurred.
    others: Option<Box<[u32; N]>>,
}

impl<const N: usize> Kinds<N> {
    /// Adds to the count of a kind.
    pub fn add(&mut self, kind: usize, more: u32) {
        if more == 0 {
            return;
        }
        if self.count == 0 && self.others.is_none() {
            self.first = kind as u8;
        }
        let count = match kind == usize::from(self.first) {
            true => &mut self.count,
            false => &mut self.others.get_or_insert_with(|| Box::new([0; N]))[kind],
        };
        *count = count.saturating_add(more);
    }

    /// Adds the counts of others.
    pub fn add_all(&mut self, other: &Kinds<N>) {
        other.all().into_iter().enumerate().for_each(|(kind, more)| self.add(kind, more));
    }

    /// All counts, in the order of the kinds.
    pub fn all(&self) -> [u32; N] {
        let mut all = self.others.as_deref().copied().unwrap_or([0; N]);
        all[usize::from(self.first)] += self.count;
        all
    }
}

impl<const N: usize> From<[u32; N]> for Kinds<N> {
    fn from(counts: [u32; N]) -> Kinds<N> {
        let mut kinds = Kinds::default();
        counts.into_iter().enumerate().for_each(|(kind, count)| kinds.add(kind, count));
        kinds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_count_and_one_kind_takes_no_memory_beside() {
        let mut kinds = Kinds::<3>::default();
        assert_eq!(kinds.all(), [0, 0, 0]);
        kinds.add(0, 0);
        kinds.add(2, 1);
        kinds.add(2, 4);
        assert!(kinds.others.is_none() && size_of::<Kinds<3>>() == 16);
        assert_eq!(kinds.all(), [0, 0, 5]);
        kinds.add(0, 7);
        kinds.add_all(&Kinds::from([0, 1, u32::MAX]));
        assert_eq!(kinds.all(), [7, 1, u32::MAX]);
    }
}
