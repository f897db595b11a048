//! A map as one sorted list.
//!
//! A room has one of each for its seats, and most rooms are small. A tree's first node has eleven
//! places; a list of one has one, once it is [shrunk](Sorted::shrink_to_fit). In the largest room
//! there may be, a change moves half a megabyte at the most, which costs less than telling of it.

/// Keys and values, by key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sorted<K, V>(Vec<(K, V)>);

impl<K, V> Default for Sorted<K, V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<K: Ord, V> Sorted<K, V> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of a key.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.find(key).ok().map(|at| &self.0[at].1)
    }

    /// The value of a key, to be changed.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.find(key).ok().map(|at| &mut self.0[at].1)
    }

    /// Puts a value in; the one that was there comes back.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self.find(&key) {
            Ok(at) => Some(std::mem::replace(&mut self.0[at].1, value)),
            Err(at) => {
                self.0.insert(at, (key, value));
                None
            }
        }
    }

    /// Takes a value out.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        self.find(key).ok().map(|at| self.0.remove(at).1)
    }

    /// All of them, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.0.iter().map(|(key, value)| (key, value))
    }

    /// All values, by key.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    /// The values behind a key; all of them if none is named.
    pub fn after(&self, key: Option<K>) -> impl Iterator<Item = &V> {
        let first = match key.map(|key| self.find(&key)) {
            None => 0,
            Some(Ok(at)) => at + 1,
            Some(Err(at)) => at,
        };
        self.0[first..].iter().map(|(_, value)| value)
    }

    /// Gives back the space of those who left.
    pub fn shrink_to_fit(&mut self) {
        self.0.shrink_to_fit();
    }

    /// Where a key is, or would be.
    fn find(&self, key: &K) -> Result<usize, usize> {
        self.0.binary_search_by(|(other, _)| other.cmp(key))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_does_what_a_tree_does(steps in prop::collection::vec((any::<bool>(), 0..20_u8), 0..99)) {
            let (mut list, mut tree) = (Sorted::default(), BTreeMap::new());
            for (value, (goes_in, key)) in steps.into_iter().enumerate() {
                match goes_in {
                    true => prop_assert_eq!(list.insert(key, value), tree.insert(key, value)),
                    false => prop_assert_eq!(list.remove(&key), tree.remove(&key)),
                }
                prop_assert_eq!(list.get(&key), tree.get(&key));
                prop_assert_eq!(list.len(), tree.len());
                prop_assert!(list.iter().eq(&tree));
                prop_assert!(list.values().eq(tree.values()));
                prop_assert!(list.after(None).eq(tree.values()));
                let behind = tree.iter().filter(|(other, _)| **other > key);
                prop_assert!(list.after(Some(key)).eq(behind.map(|(_, value)| value)));
            }
        }
    }
}
