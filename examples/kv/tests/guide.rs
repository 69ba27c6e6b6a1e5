//! What docs/protocol-authors.md shows of this package is what is written here.

const GUIDE: &str = include_str!("../../../docs/protocol-authors.md");
const SOURCES: [&str; 4] = [
    include_str!("../src/handler.rs"),
    include_str!("../src/lib.rs"),
    include_str!("../src/protocol.rs"),
    include_str!("../src/store.rs"),
];

#[test]
fn the_guides_snippets_are_cut_from_the_sources() {
    let snippets: Vec<&str> = GUIDE
        .split("```rust\n")
        .skip(1)
        .filter_map(|behind| behind.split_once("```"))
        .map(|(snippet, _)| snippet)
        .collect();
    assert!(!snippets.is_empty());
    for snippet in snippets {
        let found = SOURCES.iter().any(|source| source.contains(snippet));
        assert!(found, "no source has these lines:\n{snippet}");
    }
}
