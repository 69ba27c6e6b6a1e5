//! A flame graph: counted stacks as one SVG that needs nothing else. Width is time, the stack grows upward.
//!
//! Written here because the crates that draw flame graphs are, or build on, inferno, whose licence (CDDL) the project does not take.
//! Invariant: names come from the profiled program, so everything that is printed of them is escaped.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use crate::folded::Stacks;

const WIDTH: f64 = 1200.0;
const ROW: f64 = 17.0;
const MARGIN: f64 = 10.0;
const HEADER: f64 = 52.0;
/// About the width of a character.
const CHARACTER: f64 = 7.0;
/// What is narrower is not drawn.
const NARROWEST: f64 = 0.2;

/// A frame below which others are.
#[derive(Default)]
struct Node<'a> {
    count: u64,
    children: BTreeMap<&'a str, Node<'a>>,
}

impl<'a> Node<'a> {
    fn of(stacks: &'a Stacks) -> Node<'a> {
        let mut root = Node::default();
        for (stack, count) in stacks.iter() {
            root.count += count;
            let mut node = &mut root;
            for frame in stack {
                node = node.children.entry(frame).or_default();
                node.count += count;
            }
        }
        root
    }

    fn depth(&self) -> usize {
        1 + self.children.values().map(Node::depth).max().unwrap_or(0)
    }
}

/// Draws it.
pub fn svg(stacks: &Stacks, title: &str) -> String {
    let root = Node::of(stacks);
    let height = HEADER + root.depth() as f64 * ROW + MARGIN;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"monospace\" font-size=\"12\">\n<style>{STYLE}</style>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fdfdf8\"/>\n\
         <text x=\"{MARGIN}\" y=\"22\" font-size=\"16\">{}</text>\n\
         <text id=\"found\" x=\"{MARGIN}\" y=\"42\" fill=\"#666\">click a frame to zoom, the lowest to go back; press / to search</text>\n",
        Escaped(title),
    );
    let mut drawing = Drawing { out: &mut out, total: root.count, bottom: height - MARGIN - ROW };
    drawing.draw("all", &root, 0, 0);
    let _ = writeln!(out, "<script><![CDATA[{SCRIPT}]]></script>\n</svg>");
    out
}

struct Drawing<'a> {
    out: &'a mut String,
    total: u64,
    bottom: f64,
}

impl Drawing<'_> {
    /// `before` are the samples left of it.
    fn draw(&mut self, name: &str, node: &Node<'_>, before: u64, level: usize) {
        let scale = (WIDTH - 2.0 * MARGIN) / self.total.max(1) as f64;
        let (x, width) = (MARGIN + before as f64 * scale, node.count as f64 * scale);
        if width < NARROWEST {
            return;
        }
        let y = self.bottom - level as f64 * ROW;
        let share = 100.0 * node.count as f64 / self.total.max(1) as f64;
        let (fill, shown) = (colour(name), Escaped(shorten(name, width)));
        // A String takes every write.
        let _ = writeln!(
            self.out,
            "<g data-x=\"{x:.2}\" data-w=\"{width:.2}\" data-y=\"{y}\"><title>{} ({} samples, {share:.2}%)</title>\
             <rect x=\"{x:.2}\" y=\"{y}\" width=\"{width:.2}\" height=\"{:.0}\" fill=\"{fill}\" rx=\"1\"/>\
             <text x=\"{:.2}\" y=\"{:.0}\">{shown}</text></g>",
            Escaped(name),
            node.count,
            ROW - 1.0,
            x + 3.0,
            y + 12.0,
        );
        let mut left = before;
        for (name, child) in &node.children {
            self.draw(name, child, left, level + 1);
            left += child.count;
        }
    }
}

/// As much of a name as fits.
fn shorten(name: &str, width: f64) -> &str {
    let room = ((width - 6.0) / CHARACTER).max(0.0) as usize;
    if room < 3 {
        return "";
    }
    name.char_indices().nth(room).map_or(name, |(end, _)| &name[..end])
}

/// The same for the same name: greens for the kernel's functions, which have no path, warm colours for ours.
fn colour(name: &str) -> String {
    let hash = name.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let (one, two) = (hash % 40, (hash >> 8) % 40);
    match name.contains("::") || name.contains(' ') {
        true => format!("rgb({},{},{})", 215 + one, 120 + 2 * two, 50 + one),
        false => format!("rgb({},{},{})", 130 + two, 185 + one, 120 + two),
    }
}

struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '&' => f.write_str("&amp;"),
            '"' => f.write_str("&quot;"),
            // XML has no other control characters.
            c if c.is_control() => f.write_char('?'),
            c => f.write_char(c),
        })
    }
}

const STYLE: &str = "g{cursor:pointer}g:hover rect{stroke:#000}g.hit rect{fill:#b05ce0}text{pointer-events:none}";

/// Zooming stretches a frame to the whole width and moves those beside it away; searching marks and counts.
const SCRIPT: &str = r#"
const frames=[...document.querySelectorAll('g')],M=10,W=1180;
const name=g=>g.querySelector('title').textContent;
function zoom(to){const x0=+to.dataset.x,w0=+to.dataset.w,k=W/w0;
for(const g of frames){const x=+g.dataset.x,w=+g.dataset.w,below=+g.dataset.y>=+to.dataset.y;
const inside=x+.01>=x0&&x+w<=x0+w0+.01,around=below&&x<=x0+.01&&x+w+.01>=x0+w0;
g.style.display=inside||around?'':'none';
const nx=around?M:M+(x-x0)*k,nw=around?W:w*k,[r,t]=[g.querySelector('rect'),g.querySelector('text')];
r.setAttribute('x',nx);r.setAttribute('width',Math.max(nw,.1));t.setAttribute('x',nx+3);
const room=Math.floor((nw-6)/7);t.textContent=room<3?'':name(g).replace(/ \(\d+ samples.*$/,'').slice(0,room);}}
for(const g of frames)g.addEventListener('click',()=>zoom(g));
document.addEventListener('keydown',e=>{if(e.key!=='/')return;e.preventDefault();
const what=prompt('search')||'';let n=0;
for(const g of frames){const hit=what&&name(g).includes(what);g.classList.toggle('hit',!!hit);n+=!!hit;}
document.getElementById('found').textContent=what?n+' frames with '+what:'';});
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_as_wide_as_their_share() {
        let mut stacks = Stacks::default();
        let stack = |frames: &[&str]| frames.iter().map(|frame| (*frame).to_owned()).collect();
        stacks.add(stack(&["shard-0", "engine::tick"]), 3);
        stacks.add(stack(&["shard-0", "<T as A>::b"]), 1);
        let svg = svg(&stacks, "10 s & more");
        let width = |name: &str| {
            let at = svg.find(&format!("<title>{name} (")).unwrap_or_else(|| panic!("no {name} in {svg}"));
            let group = &svg[svg[..at].rfind("<g ").unwrap()..];
            group.split("data-w=\"").nth(1).unwrap().split('"').next().unwrap().parse::<f64>().unwrap()
        };
        assert_eq!([width("all"), width("engine::tick"), width("&lt;T as A&gt;::b")], [1180.0, 885.0, 295.0]);
        assert!(svg.contains("10 s &amp; more") && svg.trim_end().ends_with("</svg>"));
        assert!(!svg.contains("<T as"), "names are escaped");
    }

    #[test]
    fn names_are_cut_to_their_room() {
        assert_eq!((shorten("abcdefgh", 6.0 + 4.0 * CHARACTER), shorten("abcdefgh", 20.0)), ("abcd", ""));
        assert_eq!(shorten("äöü", 100.0), "äöü");
    }
}
