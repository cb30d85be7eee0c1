//! Paths of routes as a tree of segments: a lookup costs the length of the path, however many routes there are.
//!
//! At every segment a literal is tried first, then a parameter, then a `*`; the first that takes the method wins.

use std::collections::HashMap;

use http::Method;

use super::{
    path::{Path, decode, split_segment},
    pattern::{Pattern, Segment},
};

/// The place of a route in its table.
pub(super) type RouteId = usize;

/// A tree of patterns.
#[derive(Debug)]
pub(super) struct Tree {
    nodes: Vec<Node>,
}

#[derive(Debug, Default)]
struct Node {
    literals: HashMap<Box<[u8]>, usize>,
    parameter: Option<usize>,
    /// Routes whose pattern ends here.
    end: Methods,
    /// Routes whose pattern ends here in `*`.
    rest: Methods,
}

/// The routes of one pattern, by method.
#[derive(Debug, Default)]
pub(super) struct Methods {
    listed: Vec<(Method, RouteId)>,
    any: Option<RouteId>,
}

impl Default for Tree {
    fn default() -> Self {
        Self {
            nodes: vec![Node::default()],
        }
    }
}

impl Tree {
    /// The methods under `pattern`, to be added to.
    pub(super) fn methods(&mut self, pattern: &Pattern) -> &mut Methods {
        let at = pattern
            .segments
            .iter()
            .fold(0, |at, segment| self.child(at, segment));
        let node = &mut self.nodes[at];
        if pattern.wildcard {
            &mut node.rest
        } else {
            &mut node.end
        }
    }

    fn child(&mut self, at: usize, segment: &Segment) -> usize {
        let new = self.nodes.len();
        let node = &mut self.nodes[at];
        let child = match segment {
            Segment::Literal(bytes) => *node.literals.entry(bytes.clone()).or_insert(new),
            Segment::Parameter(_) => *node.parameter.get_or_insert(new),
        };
        if child == new {
            self.nodes.push(Node::default());
        }
        child
    }

    /// Offers the methods of every pattern that matches `path` to `probe`, the most specific first, until it takes one.
    pub(super) fn search(
        &self,
        path: &Path<'_>,
        probe: &mut impl FnMut(&Methods) -> Option<RouteId>,
    ) -> Option<RouteId> {
        self.descend(0, Some(&path.raw()[1..]), probe)
    }

    fn descend(
        &self,
        at: usize,
        rest: Option<&str>,
        probe: &mut impl FnMut(&Methods) -> Option<RouteId>,
    ) -> Option<RouteId> {
        let node = &self.nodes[at];
        let Some(rest) = rest else {
            return probe(&node.end).or_else(|| probe(&node.rest));
        };
        let (segment, next) = split_segment(rest);
        if let Some(&child) = node.literals.get(&*decode(segment))
            && let Some(found) = self.descend(child, next, probe)
        {
            return Some(found);
        }
        if let Some(child) = node.parameter.filter(|_| !segment.is_empty())
            && let Some(found) = self.descend(child, next, probe)
        {
            return Some(found);
        }
        probe(&node.rest)
    }
}

impl Methods {
    /// Adds a route for `method`, or gives back the one that has it.
    pub(super) fn add(&mut self, method: Option<&Method>, route: RouteId) -> Result<(), RouteId> {
        let taken = match method {
            Some(method) => self.listed(method),
            None => self.any,
        };
        if let Some(first) = taken {
            return Err(first);
        }
        match method {
            Some(method) => self.listed.push((method.clone(), route)),
            None => self.any = Some(route),
        }
        Ok(())
    }

    /// Who takes `method`: a route that lists it, for HEAD also one that lists GET, else one for all methods.
    pub(super) fn pick(&self, method: &Method) -> Option<RouteId> {
        let head = || self.listed(&Method::GET).filter(|_| method == Method::HEAD);
        self.listed(method).or_else(head).or(self.any)
    }

    /// The methods that are listed.
    pub(super) fn all(&self) -> impl Iterator<Item = &Method> {
        self.listed.iter().map(|(method, _)| method)
    }

    /// Whether there is any route at all.
    pub(super) fn is_empty(&self) -> bool {
        self.listed.is_empty() && self.any.is_none()
    }

    fn listed(&self, method: &Method) -> Option<RouteId> {
        self.listed
            .iter()
            .find(|(own, _)| own == method)
            .map(|(_, route)| *route)
    }
}
