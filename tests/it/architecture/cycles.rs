//! No module imports itself by way of others.
//!
//! A type that two modules need lives below both. `mod` declarations are no imports.

use std::collections::{BTreeMap, BTreeSet};

use crate::architecture::{Source, assert_none, is_word, sources};

/// Each module's imports, by paths from the crate's root.
type Imports = BTreeMap<String, BTreeSet<String>>;

/// The module of a file, as a path from the crate's root.
fn module_path(source: &Source, folder: &str) -> String {
    let path = source.path.strip_prefix(folder).expect("a file of the folder");
    let path = path.with_extension("").to_string_lossy().replace('/', "::");
    path.strip_suffix("::mod").map_or(path.clone(), str::to_owned)
}

/// Every path that begins with `crate::`, with the groups of its last part apart.
fn named_paths(code: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for (at, root) in code.match_indices("crate::") {
        let rest = &code[at + root.len()..];
        let end = rest.find(|c: char| !is_word(c) && c != ':').unwrap_or(rest.len());
        let (base, rest) = (&rest[..end], &rest[end..]);
        match rest.strip_prefix('{').and_then(|rest| rest.split_once('}')) {
            Some((group, _)) => {
                let names = group.split(',').map(str::trim).filter(|name| *name != "self");
                paths.extend(names.map(|name| format!("{base}{name}")));
            }
            None => paths.push(base.to_owned()),
        }
    }
    paths
}

fn imports_of(folder: &str) -> Imports {
    let sources = sources(folder);
    let is_part = |source: &&Source| {
        let path = source.path.to_string_lossy().into_owned();
        !path.contains("tests")
    };
    let modules: BTreeMap<String, &Source> = sources
        .iter()
        .filter(is_part)
        .map(|source| (module_path(source, folder), source))
        .collect();
    let import = |(module, source): (&String, &&Source)| {
        let code = source.code.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let mut imports = BTreeSet::new();
        for path in named_paths(code) {
            let mut named = path.trim_end_matches(':');
            while !modules.contains_key(named) {
                let Some((parent, _)) = named.rsplit_once("::") else { break };
                named = parent;
            }
            if modules.contains_key(named) && named != module {
                imports.insert(named.to_owned());
            }
        }
        (module.clone(), imports)
    };
    modules.iter().map(import).collect()
}

/// The modules that `from` reaches by its imports.
fn reached<'a>(imports: &'a Imports, from: &str) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut pending: Vec<&str> = imports[from].iter().map(String::as_str).collect();
    while let Some(module) = pending.pop() {
        if reached.insert(module) {
            pending.extend(imports[module].iter().map(String::as_str));
        }
    }
    reached
}

fn cycles(imports: &Imports) -> Vec<String> {
    imports
        .keys()
        .filter(|module| reached(imports, module).contains(module.as_str()))
        .map(|module| {
            let back = |other: &&String| reached(imports, other).contains(module.as_str());
            let next: Vec<&String> = imports[module].iter().filter(back).collect();
            format!("{module} imports itself by way of {next:?}")
        })
        .collect()
}

#[test]
fn no_module_imports_itself_by_way_of_others() {
    let (sources, benches) = (imports_of("src"), imports_of("benches/suite"));
    assert!(sources.values().map(BTreeSet::len).sum::<usize>() > 1_000, "the imports are read");
    assert_none(&cycles(&sources));
    assert_none(&cycles(&benches));
}

#[test]
fn a_cycle_is_found() {
    let module = |imports: &[&str]| imports.iter().map(|name| (*name).to_owned()).collect();
    let mut imports = Imports::from([
        ("a".to_owned(), module(&["b"])),
        ("b".to_owned(), module(&["c"])),
        ("c".to_owned(), module(&[])),
    ]);
    assert_none(&cycles(&imports));
    imports.insert("c".to_owned(), module(&["a"]));
    assert_eq!(cycles(&imports).len(), 3);
    assert_eq!(
        named_paths("use crate::a::b;\nuse crate::c::{d, self, e};\nlet f = crate::g::H::new();"),
        ["a::b", "c::d", "c::e", "g::H::new"]
    );
}
