//! Every link leads somewhere: those of the documents to files and headings, and those that code,
//! scripts, migrations and settings name as `docs/contract.md#dates`, from the repository's root.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::harness::repository::{files, root};

/// What ends a path in prose and code.
const AROUND_PATHS: [char; 12] = ['`', '(', ')', '"', '\'', ',', ';', '<', '>', '[', ']', '|'];

/// The anchors that a forge gives the document's headings, and those that it sets itself.
fn anchors(document: &str) -> BTreeSet<String> {
    let mut in_code = false;
    let mut anchors = BTreeSet::new();
    for line in document.lines() {
        in_code ^= line.starts_with("```");
        let set = line.split("<a id=\"").skip(1).filter_map(|rest| rest.split_once('"'));
        anchors.extend(set.map(|(name, _)| name.to_owned()));
        let heading = line.trim_start_matches('#');
        if !in_code && heading.len() < line.len() && heading.starts_with(' ') {
            let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
            let words: String = heading.trim().to_lowercase().chars().filter(kept).collect();
            anchors.insert(words.replace(' ', "-"));
        }
    }
    anchors
}

/// Why the link leads nowhere, if so.
fn fault(folder: &Path, link: &str) -> Option<String> {
    let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
    let document = folder.join(path);
    if !document.exists() {
        return Some(format!("`{link}`: there is no {path}"));
    }
    if anchor.is_empty() {
        return None;
    }
    let text = fs::read_to_string(&document).expect("a readable document");
    (!anchors(&text).contains(anchor)).then(|| format!("`{link}`: it has no such anchor"))
}

/// The targets of a document's links to files, each from the folder of the document.
fn links(document: &str) -> Vec<&str> {
    let targets = document.match_indices("](").map(|(at, start)| {
        let rest = &document[at + start.len()..];
        &rest[..rest.find(')').unwrap_or(rest.len())]
    });
    targets.filter(|target| !target.contains("://") && !target.contains("::")).collect()
}

/// The paths of documents that the text names, each from the root.
fn named_documents(text: &str) -> Vec<&str> {
    let words = text.split(|c: char| c.is_whitespace() || AROUND_PATHS.contains(&c));
    let words = words.map(|word| word.trim_end_matches(['.', ':']));
    words.filter(|word| word.contains('/') && word.contains(".md")).collect()
}

#[test]
fn every_link_of_the_documents_leads_somewhere() {
    let mut faults = Vec::new();
    for path in files("", &["md"]) {
        let text = fs::read_to_string(&path).expect("a readable document");
        for link in links(&text) {
            let own = path.file_name().expect("it has a name").to_string_lossy();
            let link = if link.starts_with('#') { format!("{own}{link}") } else { link.to_owned() };
            let folder = path.parent().expect("it is in a folder");
            faults.extend(fault(folder, &link).map(|why| format!("{}: {why}", path.display())));
        }
    }
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn every_document_that_code_names_is_there() {
    let mut faults = Vec::new();
    for path in files("", &["rs", "sh", "toml", "sql"]) {
        let text = fs::read_to_string(&path).expect("a readable file");
        if path.ends_with("tests/it/links.rs") || path.starts_with(root().join("vendor")) {
            continue;
        }
        let named = named_documents(&text);
        let missing = named.iter().filter_map(|document| fault(root(), document));
        faults.extend(missing.map(|why| format!("{}: {why}", path.display())));
        // A citation without a link can't be followed, and goes stale unseen.
        if text.contains("(contract, ") {
            faults.push(format!("{}: cites the contract without a link", path.display()));
        }
    }
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn a_link_that_leads_nowhere_is_found() {
    let text = "See [dates](docs/contract.md#dates), `docs/contract.md#dates`; and `docs/none.md`.";
    assert_eq!(links(text), ["docs/contract.md#dates"]);
    assert_eq!(
        named_documents(text),
        ["docs/contract.md#dates", "docs/contract.md#dates", "docs/none.md"]
    );
    assert_eq!(fault(root(), "docs/contract.md#dates"), None);
    assert!(fault(root(), "docs/none.md").is_some());
    assert!(fault(root(), "docs/contract.md#none").is_some());
    let anchors = anchors("# A: b, c\n```\n# no\n```\n## `x` – y\n#no\n<a id=\"z\"></a>");
    assert_eq!(anchors.into_iter().collect::<Vec<_>>(), ["a-b-c", "x--y", "z"]);
}
