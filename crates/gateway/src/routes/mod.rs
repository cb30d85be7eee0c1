//! Which route serves a request: one immutable table, found by host, then path, then method.
//!
//! The most specific wins: an exact host before `*.suffix` (the longer first) before any; in a path, segment by
//! segment, a literal before a parameter before `*`. A route that does not take the method is passed over. Pure:
//! knows no app, no connection and no clock.

mod path;
mod pattern;
mod tree;

use std::{borrow::Cow, collections::HashMap};

use http::Method;

pub(crate) use path::checked;
pub use path::{Path, PathFault};
pub use pattern::{BadPattern, Pattern, Rewrite, Segment};
use tree::{RouteId, Tree};

/// One route on its way into a table.
#[derive(Debug, Clone)]
pub struct Entry<T> {
    /// `shop.example.com`, `*.example.com`, or any.
    pub host: Option<String>,
    /// Its path.
    pub pattern: Pattern,
    /// The methods that it lists; empty: all.
    pub methods: Vec<Method>,
    /// What it leads to.
    pub value: T,
}

/// A route, or some of its methods, that another route had first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Duplicate {
    /// Which entry it was, counted from 0.
    pub entry: usize,
    /// Which entry keeps the place.
    pub first: usize,
    /// For which method; `None`: for all that no route lists.
    pub method: Option<Method>,
}

/// What a table says of a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Found<'t, T> {
    /// This serves it.
    Route(&'t T),
    /// The path is known, but not for this method: these there are.
    OtherMethods(Vec<Method>),
    /// Nothing matches.
    Nothing,
}

/// The table.
#[derive(Debug)]
pub struct Table<T> {
    values: Vec<T>,
    exact: HashMap<Box<str>, Tree>,
    suffix: HashMap<Box<str>, Tree>,
    any: Tree,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self {
            values: Vec::new(),
            exact: HashMap::new(),
            suffix: HashMap::new(),
            any: Tree::default(),
        }
    }
}

impl<T> Table<T> {
    /// A table of `entries`. Where two want the same place, the earlier keeps it and the later is in the list.
    pub fn build(entries: impl IntoIterator<Item = Entry<T>>) -> (Self, Vec<Duplicate>) {
        let mut table = Self::default();
        let mut duplicates = Vec::new();
        for entry in entries {
            table.add(entry, &mut duplicates);
        }
        (table, duplicates)
    }

    fn add(&mut self, entry: Entry<T>, duplicates: &mut Vec<Duplicate>) {
        let route = self.values.len();
        let methods = self.tree(entry.host.as_deref()).methods(&entry.pattern);
        let mut place = |method: Option<&Method>| {
            if let Err(first) = methods.add(method, route) {
                duplicates.push(Duplicate {
                    entry: route,
                    first,
                    method: method.cloned(),
                });
            }
        };
        if entry.methods.is_empty() {
            place(None);
        }
        entry.methods.iter().for_each(|method| place(Some(method)));
        self.values.push(entry.value);
    }

    fn tree(&mut self, host: Option<&str>) -> &mut Tree {
        let Some(host) = host.filter(|h| *h != "*") else {
            return &mut self.any;
        };
        let host = host.to_ascii_lowercase();
        match host.strip_prefix("*.") {
            Some(suffix) => self.suffix.entry(suffix.into()).or_default(),
            None => self.exact.entry(host.into()).or_default(),
        }
    }

    /// Finds the route for a request to `host` (without port; empty when the client named none).
    #[must_use]
    pub fn find(&self, host: &str, method: &Method, path: &Path<'_>) -> Found<'_, T> {
        let host = normal_host(host);
        let route = self
            .trees(&host)
            .find_map(|tree| tree.search(path, &mut |methods| methods.pick(method)));
        match route {
            Some(route) => Found::Route(&self.values[route]),
            None => self.other_methods(&host, path),
        }
    }

    /// How many routes there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The trees that serve `host`, the most specific first.
    fn trees<'s>(&'s self, host: &'s str) -> impl Iterator<Item = &'s Tree> {
        let dots = host.match_indices('.').filter(|_| !self.suffix.is_empty());
        // A host such as `.example.com` is no subdomain.
        let suffixes = dots
            .filter(|(at, _)| *at > 0)
            .filter_map(|(at, _)| self.suffix.get(&host[at + 1..]));
        self.exact
            .get(host)
            .into_iter()
            .chain(suffixes)
            .chain(std::iter::once(&self.any))
    }

    fn other_methods(&self, host: &str, path: &Path<'_>) -> Found<'_, T> {
        let mut known = false;
        let mut all: Vec<Method> = Vec::new();
        for tree in self.trees(host) {
            let _: Option<RouteId> = tree.search(path, &mut |methods| {
                known |= !methods.is_empty();
                all.extend(methods.all().cloned());
                None
            });
        }
        if known {
            Found::OtherMethods(allowed(all))
        } else {
            Found::Nothing
        }
    }
}

/// `listed` as an `Allow` header has it: HEAD comes with GET, OPTIONS the gateway answers itself.
fn allowed(mut listed: Vec<Method>) -> Vec<Method> {
    if listed.contains(&Method::GET) {
        listed.push(Method::HEAD);
    }
    listed.push(Method::OPTIONS);
    listed.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    listed.dedup();
    listed
}

/// Lower case, without the dot that ends a fully qualified name.
fn normal_host(host: &str) -> Cow<'_, str> {
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}
