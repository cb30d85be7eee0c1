//! Paths of fields as a tree of steps. A dot in a name is a step, in a pattern as in an event: EventBridge knows paths only
//! with their steps joined by dots, so that `{"a.b": 1}` and `{"a": {"b": 1}}` have the same field.

use std::collections::HashMap;

/// A path's place in its [`Paths`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PathId(u32);

/// The path of no steps.
pub(crate) const TOP: PathId = PathId(0);

/// A set of paths; ids stay what they are while a path is used.
#[derive(Debug, Clone)]
pub(crate) struct Paths {
    nodes: Vec<Step>,
    free: Vec<PathId>,
}

#[derive(Debug, Clone)]
struct Step {
    parent: PathId,
    name: Box<str>,
    next: HashMap<Box<str>, PathId>,
    /// How many fields of patterns are here.
    uses: u32,
}

impl Default for Paths {
    fn default() -> Self {
        Self {
            nodes: vec![Step::new(TOP, "")],
            free: Vec::new(),
        }
    }
}

impl Step {
    fn new(parent: PathId, name: &str) -> Self {
        Self {
            parent,
            name: name.into(),
            next: HashMap::new(),
            uses: 0,
        }
    }
}

impl Paths {
    fn step(&self, id: PathId) -> &Step {
        &self.nodes[id.0 as usize]
    }

    /// Where a name leads from `id`, if any path goes there.
    pub(crate) fn enter(&self, id: PathId, name: &str) -> Option<PathId> {
        if !name.contains('.') {
            return self.step(id).next.get(name).copied();
        }
        name.split('.')
            .try_fold(id, |id, step| self.step(id).next.get(step).copied())
    }

    /// Whether a field of a pattern is here.
    pub(crate) fn is_field(&self, id: PathId) -> bool {
        self.step(id).uses > 0
    }

    /// Whether paths go on from here.
    pub(crate) fn goes_on(&self, id: PathId) -> bool {
        !self.step(id).next.is_empty()
    }

    /// Whether a path is `ancestor` or goes on from it.
    pub(crate) fn leads_to(&self, ancestor: PathId, mut id: PathId) -> bool {
        loop {
            if id == ancestor {
                return true;
            }
            if id == TOP {
                return false;
            }
            id = self.step(id).parent;
        }
    }

    /// Uses a path once more.
    pub(crate) fn add(&mut self, path: &str) -> PathId {
        let id = path.split('.').fold(TOP, |id, name| self.child(id, name));
        self.nodes[id.0 as usize].uses += 1;
        id
    }

    fn child(&mut self, parent: PathId, name: &str) -> PathId {
        if let Some(id) = self.step(parent).next.get(name) {
            return *id;
        }
        let node = Step::new(parent, name);
        let id = match self.free.pop() {
            Some(id) => {
                self.nodes[id.0 as usize] = node;
                id
            }
            None => {
                let count = u32::try_from(self.nodes.len()).expect("memory ends before");
                self.nodes.push(node);
                PathId(count)
            }
        };
        let next = &mut self.nodes[parent.0 as usize].next;
        next.insert(name.into(), id);
        id
    }

    /// Uses a path once less; one that nobody uses is forgotten.
    pub(crate) fn remove(&mut self, mut id: PathId) {
        let step = &mut self.nodes[id.0 as usize];
        step.uses = step.uses.saturating_sub(1);
        while id != TOP && self.step(id).uses == 0 && !self.goes_on(id) {
            let parent = self.step(id).parent;
            let name = std::mem::take(&mut self.nodes[id.0 as usize].name);
            self.nodes[parent.0 as usize].next.remove(&name);
            self.free.push(id);
            id = parent;
        }
    }

    /// Whether no path is used.
    pub(crate) fn is_empty(&self) -> bool {
        self.nodes.len() == 1 + self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_come_and_go() {
        let mut paths = Paths::default();
        let (long, short) = (paths.add("a.b.c"), paths.add("a.b"));
        assert_eq!(paths.add("a.b"), short);
        let a = paths.enter(TOP, "a").expect("leads on");
        assert_eq!(paths.enter(a, "b.c"), Some(long));
        assert_eq!(paths.enter(TOP, "b"), None);
        assert!(paths.leads_to(a, long) && !paths.leads_to(long, a));
        paths.remove(long);
        assert_eq!(paths.enter(TOP, "a.b.c"), None);
        paths.remove(short);
        paths.remove(short);
        assert!(paths.is_empty());
        paths.add("x");
        assert_eq!(paths.nodes.len(), 4);
    }
}
