//! What the text of a prompt names: `$skill`, `[$name](path of a skill)`, `[$name](app://ID)`, `[@name](plugin://ID)`.

/// Mentions of one text that are looked at.
const MOST: usize = 256;

/// One of them.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Mention<'t> {
    Skill(&'t str),
    SkillAt(&'t str),
    App(&'t str),
    Plugin(&'t str),
}

pub(super) fn mentions(text: &str) -> impl Iterator<Item = Mention<'_>> {
    let mut rest = text;
    let next = move || {
        loop {
            let (before, after) = rest.split_at_checked(rest.find(['$', '@'])?)?;
            let sigil = after.get(..1)?;
            let after = after.get(1..)?;
            let (name, behind) = after.split_at_checked(end_of_name(after))?;
            rest = behind;
            let link = behind.strip_prefix("](").filter(|_| before.ends_with('['));
            if let Some((target, behind)) = link.and_then(|link| link.split_once(')')) {
                rest = behind;
                match (sigil, target.split_once("://")) {
                    ("$", Some(("app", id))) => return Some(Mention::App(id)),
                    ("$", Some(("skill", path))) => return Some(Mention::SkillAt(path)),
                    ("$", None) => return Some(Mention::SkillAt(target)),
                    ("@", Some(("plugin", id))) => return Some(Mention::Plugin(id)),
                    _ => continue,
                }
            }
            let name = name.trim_end_matches(':');
            if sigil == "$" && !name.is_empty() {
                return Some(Mention::Skill(name));
            }
        }
    };
    std::iter::from_fn(next).take(MOST)
}

fn end_of_name(text: &str) -> usize {
    let other = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | ':'));
    text.find(other).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_names_what_the_real_server_takes_it_for() {
        let all = |text| mentions(text).collect::<Vec<_>>();
        assert_eq!(all("a $one, ($two) and x$three."), ["one", "two", "three"].map(Mention::Skill));
        assert_eq!(all("$alpha:skill: `$tick`"), ["alpha:skill", "tick"].map(Mention::Skill));
        assert_eq!(all("[$any](/home/x/SKILL.md)"), [Mention::SkillAt("/home/x/SKILL.md")]);
        assert_eq!(all("[$any](skill:///x/SKILL.md)"), [Mention::SkillAt("/x/SKILL.md")]);
        assert_eq!(all("[$cal](app://c1) [@p](plugin://p@m)"), [Mention::App("c1"), Mention::Plugin("p@m")]);
        let nothing = [
            "",
            "$",
            "$ 5",
            "@one",
            "[one](app://c)",
            "[@c](app://c)",
            "[$p](plugin://p)",
            "mail@host",
            "[@",
            "é$",
        ];
        for text in nothing {
            assert_eq!(all(text), [], "{text}");
        }
        assert_eq!(all("[$one] (x) [$two](no end"), ["one", "two"].map(Mention::Skill));
        assert_eq!(all(&"$a ".repeat(1000)).len(), MOST);
    }
}
