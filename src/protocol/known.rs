//! What the stream said of skills, plugins and models, which facts about their use need later.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::wire::{read, some};
use super::{Now, Observer, bounded, hash, local};
use crate::fact::vocabulary::ModelListed;
use crate::fact::{Point, Text};

/// Skills or plugins that are remembered, each.
const MOST: usize = 4096;
/// Skills of one name that are told apart.
const SAME_NAME: usize = 16;

/// Skills, plugins, and which apps a turn's prompt named.
#[derive(Debug, Default)]
pub(super) struct Catalogue {
    /// By name, of which there may be several.
    pub skills: BTreeMap<String, Vec<Skill>>,
    /// Whether the server listed its skills: then one that is not among them does not exist.
    pub skills_listed: bool,
    pub plugins: BTreeMap<String, Plugin>,
    /// Names of marketplaces by the paths of their files.
    pub marketplaces: BTreeMap<String, String>,
    /// Names of apps by connector; none of one that nobody linked, as in what is sent.
    pub apps: BTreeMap<String, Option<String>>,
    pub mentioned: VecDeque<(String, String)>,
    /// How often a hook ran, by its key.
    pub runs: HashMap<String, u64>,
}

/// A skill, as far as it was told.
#[derive(Debug, Clone, Default)]
pub(super) struct Skill {
    pub scope: Option<String>,
    pub path: Option<String>,
    pub plugin: Option<String>,
}

/// A plugin, as far as it was told.
#[derive(Debug, Clone, Default)]
pub(super) struct Plugin {
    pub remote_id: Option<String>,
    pub local_version: Option<String>,
    pub installed: bool,
    pub enabled: bool,
    pub has_skills: Option<bool>,
    pub mcp_servers: Option<Vec<String>>,
    pub connectors: Vec<String>,
}

/// What a prompt names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Use {
    Skill { name: String, path: Option<String> },
    App(String),
    Plugin(String),
}

impl Plugin {
    pub fn is_on(&self) -> bool {
        self.installed && self.enabled
    }

    /// Whether it was told that it has nothing to use.
    fn is_bare(&self) -> bool {
        self.has_skills == Some(false)
            && self.mcp_servers.as_ref().is_some_and(Vec::is_empty)
            && self.connectors.is_empty()
    }
}

impl Catalogue {
    pub fn mentioned(&self, turn: &str, connector: &str) -> bool {
        self.mentioned.iter().any(|(of, id)| of == turn && id == connector)
    }

    /// Ids of the plugins that work in a thread: installed, switched on, and not switched off for it.
    pub fn active_plugins(&self, disabled: &[String]) -> BTreeSet<String> {
        let on = |(id, plugin): &(&String, &Plugin)| plugin.is_on() && !disabled.contains(id);
        let active = self.plugins.iter().filter(on);
        active.map(|(id, plugin)| plugin.remote_id.clone().unwrap_or_else(|| id.clone())).collect()
    }

    /// Whether a thread uses a plugin that a prompt names. One that was never listed is one that no client can offer.
    pub fn uses_plugin(&self, id: &str, disabled: &[String]) -> bool {
        self.plugins.get(id).is_some_and(|plugin| plugin.is_on() && !plugin.is_bare())
            && !disabled.iter().any(|other| other == id)
    }

    /// The skills of this name, but those of plugins that are off.
    pub fn skills_named(&self, name: &str) -> impl Iterator<Item = &Skill> {
        self.skills.get(name).into_iter().flatten().filter(|skill| self.is_on(skill))
    }

    /// The skill that lies there, with its name.
    pub fn skill_of_path(&self, path: &str) -> Option<(&str, &Skill)> {
        let all =
            self.skills.iter().flat_map(|(name, named)| named.iter().map(move |skill| (&**name, skill)));
        all.filter(|(_, skill)| self.is_on(skill)).find(|(_, skill)| skill.path.as_deref() == Some(path))
    }

    fn is_on(&self, skill: &Skill) -> bool {
        let plugin = skill.plugin.as_deref().and_then(|id| self.plugins.get(id));
        plugin.is_none_or(Plugin::is_on)
    }

    /// The skill of this name that lies there, else one of the name.
    pub fn skill_at(&self, name: &str, path: Option<&str>) -> Option<&Skill> {
        let named = self.skills.get(name)?;
        named.iter().find(|skill| skill.path.as_deref() == path).or(named.first())
    }

    /// Id of a skill, `None` where it lies in a repository that can't be looked at.
    pub fn skill_id(&self, home: Option<&str>, files: bool, name: &str, path: &str) -> Option<String> {
        let skill = self.skill_at(name, Some(path));
        let plugin = skill.and_then(|skill| Some((skill.plugin.as_deref()?, skill.path.as_deref()?)));
        if let Some((id, source)) = plugin
            && let Some(installed) = self.installed_path(home, id, source)
        {
            return Some(hash::personal_skill(&installed, name));
        }
        if files {
            let real = std::fs::canonicalize(path).ok();
            let real = real.as_deref().unwrap_or(path.as_ref());
            let checkout = local::checkout(real);
            if let Some((checkout, remote)) =
                checkout.and_then(|mut it| it.remote.take().map(|remote| (it, remote)))
            {
                let inside = real.strip_prefix(&checkout.root).unwrap_or(real);
                return Some(hash::repository_skill(&remote, &inside.to_string_lossy(), name));
            }
            return Some(hash::personal_skill(&real.to_string_lossy(), name));
        }
        let in_repository = skill.and_then(|skill| skill.scope.as_deref()) == Some("repo");
        (!in_repository).then(|| hash::personal_skill(path, name))
    }

    // An installed plugin is a copy below the server's home.
    fn installed_path(&self, home: Option<&str>, id: &str, source: &str) -> Option<String> {
        let home = home?;
        if source.starts_with(home) {
            return Some(source.to_owned());
        }
        let (name, marketplace) = plugin_parts(id);
        let version = self.plugins.get(id)?.local_version.as_deref()?;
        let inside = source.rsplit_once("/skills/").map(|(_, inside)| inside)?;
        Some(format!("{home}/plugins/cache/{}/{name}/{version}/skills/{inside}", marketplace?))
    }

    pub fn learn_skills(&mut self, result: &Value) {
        self.skills_listed = true;
        let groups = result.get("data").or_else(|| result.get("skills")).and_then(Value::as_array);
        for group in groups.into_iter().flatten() {
            let skills = group.get("skills").and_then(Value::as_array);
            let single = std::slice::from_ref(group);
            for skill in skills.map_or(single, |skills| skills.as_slice()) {
                self.learn_skill(skill, None);
            }
        }
    }

    fn learn_skill(&mut self, skill: &Value, of_plugin: Option<&str>) {
        let word =
            |key: &str| skill.get(key).and_then(Value::as_str).map(|text| bounded(text, 1024).to_owned());
        let Some(name) = word("name") else { return };
        let plugin = of_plugin.map(str::to_owned).or_else(|| word("pluginId"));
        // Skills of plugins are the user's.
        let scope = word("scope").or_else(|| plugin.as_ref().map(|_| "user".to_owned()));
        let skill = Skill { scope, path: word("path"), plugin };
        if self.skills.len() >= MOST && !self.skills.contains_key(&name) {
            return;
        }
        let named = self.skills.entry(name).or_default();
        // A plugin's skill lies where the plugin comes from, and where it was installed.
        let of_plugin = |known: &Skill| skill.plugin.is_some() && known.plugin == skill.plugin;
        if let Some(known) = named.iter_mut().find(|known| known.path == skill.path || of_plugin(known)) {
            *known = skill;
        } else if named.len() < SAME_NAME {
            named.push(skill);
        }
    }

    pub fn learn_apps(&mut self, result: &Value) {
        for app in
            result.get("data").or_else(|| result.get("apps")).and_then(Value::as_array).into_iter().flatten()
        {
            let word =
                |key: &str| app.get(key).and_then(Value::as_str).map(|text| bounded(text, 256).to_owned());
            let linked = app.get("isAccessible").and_then(Value::as_bool) != Some(false);
            if let (Some(id), Some(name)) = (word("id"), word("name"))
                && self.apps.len() < MOST
            {
                self.apps.insert(id, linked.then_some(name));
            }
        }
    }

    pub fn learn_plugins(&mut self, result: &Value) {
        let marketplaces = || result.get("marketplaces").and_then(Value::as_array).into_iter().flatten();
        for marketplace in marketplaces() {
            let word = |key: &str| marketplace.get(key).and_then(Value::as_str);
            if let (Some(path), Some(name)) = (word("path"), word("name"))
                && self.marketplaces.len() < MOST
            {
                self.marketplaces.insert(bounded(path, 1024).to_owned(), bounded(name, 256).to_owned());
            }
        }
        let listed = marketplaces().filter_map(|it| it.get("plugins").and_then(Value::as_array)).flatten();
        for plugin in listed.chain(result.get("plugin")) {
            let summary = plugin.get("summary").unwrap_or(plugin);
            let Some(id) = summary.get("id").and_then(Value::as_str) else { continue };
            let id = bounded(id, 256).to_owned();
            if self.plugins.len() >= MOST {
                return;
            }
            let known = self.plugins.entry(id.clone()).or_default();
            let word =
                |key: &str| summary.get(key).and_then(Value::as_str).map(|it| bounded(it, 256).to_owned());
            let flag = |key: &str| summary.get(key).and_then(Value::as_bool);
            known.remote_id = word("remotePluginId");
            known.local_version = word("localVersion").or(known.local_version.take());
            known.installed = flag("installed").unwrap_or(known.installed);
            known.enabled = flag("enabled").unwrap_or(known.enabled);
            let list = |key: &str| plugin.get(key).and_then(Value::as_array);
            let name = |it: &Value| {
                let own = it.get("id").or_else(|| it.get("name")).or(Some(it)).and_then(Value::as_str);
                own.map(|it| bounded(it, 256).to_owned())
            };
            if let Some(servers) = list("mcpServers") {
                known.mcp_servers = Some(servers.iter().filter_map(name).take(256).collect());
            }
            if let Some(apps) = list("apps") {
                known.connectors = apps.iter().filter_map(name).take(256).collect();
            }
            if let Some(skills) = list("skills") {
                known.has_skills = Some(!skills.is_empty());
                for skill in skills {
                    self.learn_skill(skill, Some(&id));
                }
            }
        }
    }
}

impl Observer {
    /// Says how hard each listed model thinks by default.
    pub(super) fn models_listed(&mut self, now: Now, result: &RawValue) {
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct Listed<'a> {
            #[serde(borrow)]
            data: Vec<&'a RawValue>,
        }
        let listed: Listed<'_> = read(Some(result));
        for raw in listed.data.into_iter().take(256) {
            let model: super::wire::ListedModel<'_> = read(Some(raw));
            let Some(name) = some(&model.model).or(some(&model.id)) else { continue };
            let default_effort = some(&model.default_reasoning_effort).map(|it| Text::from(bounded(it, 64)));
            let fact = ModelListed { model: bounded(name, 128).into(), default_effort };
            fact.emit(&self.envelope(now, None), self.capture);
        }
    }
}

/// `name@marketplace`.
pub(super) fn plugin_parts(id: &str) -> (&str, Option<&str>) {
    match id.split_once('@') {
        Some((name, marketplace)) => (name, Some(marketplace)),
        None => (id, None),
    }
}
