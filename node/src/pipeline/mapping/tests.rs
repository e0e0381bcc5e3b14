//! Routes against what the rules say, and matching and covering against naive models.

use proptest::prelude::*;

use super::*;

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn rule(matcher: Matcher, topic: &str, key: &str) -> Result<Rule, Box<dyn std::error::Error>> {
    let topic = TopicTemplate::parse(topic, matcher.names())?;
    let key = Template::parse(key, matcher.names())?;
    let headers = vec![("origin".to_owned(), Template::parse("mqtt:{topic}", matcher.names())?)];
    Ok(Rule { matcher, target: Target { topic, key, headers } })
}

fn topic_and_key(route: Result<Route, RouteError>) -> Option<(String, String)> {
    route.ok().map(|route| (route.topic, String::from_utf8_lossy(&route.key).into_owned()))
}

#[test]
fn the_first_matching_rule_decides() -> Outcome {
    let rules = vec![
        rule(Matcher::levels("factory/{zone}/{device}/reading")?, "readings", "{device}")?,
        rule(Matcher::levels("factory/{zone}/+/{rest#}")?, "iot.{zone}", "{2}:{rest}")?,
        rule(Matcher::regex("(?P<kind>[a-z]+)[0-9]*/(.*)")?, "other-{kind}", "{2}")?,
    ];
    let mapping = Mapping::new(rules, Some(TopicTemplate::parse("default", &[])?));
    for (mqtt, topic, key) in [
        ("factory/north/d7/reading", "readings", "d7"),
        ("factory/north/d7/state", "iot.north", "d7:state"),
        ("factory/north/d7", "iot.north", "d7:"),
        ("factory/north/d7/reading/", "iot.north", "d7:reading/"),
        ("factory//d7/reading", "readings", "d7"),
        ("factory/halle é/d7/x", "iot.halle__", "d7:x"),
        ("plant12/a/b", "other-plant", "a/b"),
        ("/factory/north/d7/reading", "default", "/factory/north/d7/reading"),
        ("$SYS/broker", "default", "$SYS/broker"),
        ("Zürich", "default", "Zürich"),
    ] {
        assert_eq!(topic_and_key(mapping.route(mqtt)), Some((topic.to_owned(), key.to_owned())), "{mqtt}");
    }
    let headers = mapping.route("factory/n/d/reading")?.headers;
    assert_eq!(headers, [("origin".to_owned(), b"mqtt:factory/n/d/reading".to_vec())]);
    Ok(())
}

#[test]
fn a_capture_of_a_failed_rule_does_not_leak_into_the_next() -> Outcome {
    let rules =
        vec![rule(Matcher::levels("a/{x}/b")?, "first", "{x}")?, rule(Matcher::regex("a(x)?/.*")?, "second", "[{1}]")?];
    let mapping = Mapping::new(rules, None);
    assert_eq!(topic_and_key(mapping.route("a/leak/c")), Some(("second".to_owned(), "[]".to_owned())));
    assert_eq!(mapping.route("b"), Err(RouteError::NoRule));
    Ok(())
}

#[test]
fn a_regex_must_match_the_whole_topic() -> Outcome {
    let mapping = Mapping::new(vec![rule(Matcher::regex("a|ab")?, "t", "k")?], None);
    assert!(mapping.route("ab").is_ok());
    assert!(mapping.route("abc").is_err() && mapping.route("xa").is_err());
    Ok(())
}

#[test]
fn a_bad_pattern_says_why() {
    let levels = |text| Matcher::levels(text).map(drop);
    assert_eq!(levels(""), Err(PatternError::Empty));
    assert_eq!(levels("a\0"), Err(PatternError::Null));
    assert_eq!(levels("a/dev-{id}"), Err(PatternError::PartOfLevel("dev-{id}".to_owned())));
    assert_eq!(levels("a+"), Err(PatternError::PartOfLevel("a+".to_owned())));
    assert_eq!(levels("a/#/b"), Err(PatternError::RestNotLast("#".to_owned())));
    assert_eq!(levels("{rest#}/b"), Err(PatternError::RestNotLast("{rest#}".to_owned())));
    assert_eq!(levels("{}"), Err(PatternError::Name(String::new())));
    assert_eq!(levels("{a b}"), Err(PatternError::Name("a b".to_owned())));
    assert_eq!(levels("{1}"), Err(PatternError::Name("1".to_owned())));
    assert_eq!(levels("{topic}"), Err(PatternError::Reserved));
    assert_eq!(levels("{a}/{a}"), Err(PatternError::Twice("a".to_owned())));
    assert_eq!(levels(&vec!["+"; 33].join("/")), Err(PatternError::TooMany(33)));
    let regex = |text| Matcher::regex(text).map(drop).map_err(|e| e.to_string());
    assert_eq!(regex("a)|(b"), Err("not a regular expression: unopened group".to_owned()));
    let too_large = "not a regular expression: Compiled regex exceeds size limit of 1048576 bytes.";
    assert_eq!(regex(r"\w{1000}"), Err(too_large.to_owned()));
    assert_eq!(regex("(?<topic>.*)"), Err(PatternError::Reserved.to_string()));
}

#[test]
fn covering_is_told_for_the_usual_filters() -> Outcome {
    for (pattern, filter, want) in [
        ("factory/#", "factory/+/+/reading", true),
        ("factory/{zone}/{device}/reading", "factory/+/+/reading", true),
        ("factory/{zone}/{device}/state", "factory/+/+/reading", false),
        ("factory/{zone}/{device}/reading", "factory/#", false),
        ("factory/#", "factory", true),
        ("factory/+/#", "factory/#", false),
        ("{first}/{rest#}", "#", true),
        ("#", "$SYS/#", false),
        ("+/x", "$a/x", false),
        ("$SYS/#", "$SYS/#", true),
        ("+", "/", false),
        ("+/+", "/", true),
    ] {
        assert_eq!(Matcher::levels(pattern)?.covers(&filter.parse()?), want, "{pattern} {filter}");
    }
    assert!(!Matcher::regex(".*")?.covers(&"a".parse()?), "a regex is no proof");
    Ok(())
}

const LEVELS: [&str; 5] = ["", "a", "é", "$a", "fresh"];

fn topic() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(&LEVELS[..]), 1..5).prop_map(|levels| levels.join("/"))
}

/// Filters of up to three levels that never say "fresh".
fn filter() -> impl Strategy<Value = String> {
    let level = prop::sample::select(&["", "a", "é", "$a", "+"][..]);
    (prop::collection::vec(level, 0..4), any::<bool>())
        .prop_map(|(mut levels, rest)| {
            if rest {
                levels.push("#");
            }
            levels.join("/")
        })
        .prop_filter("a filter has a character", |filter| !filter.is_empty())
}

/// The specification's words (§ 4.7), level by level and with copies.
fn naive_match(pattern: &[&str], topic: &[&str]) -> bool {
    match (pattern, topic) {
        (["#"], _) => true,
        ([], []) => true,
        ([p, pattern @ ..], [t, topic @ ..]) => (*p == "+" || p == t) && naive_match(pattern, topic),
        _ => false,
    }
}

fn naive(pattern: &str, topic: &str) -> bool {
    let hidden = topic.starts_with('$') && (pattern.starts_with('+') || pattern.starts_with('#'));
    let split = |text| str::split(text, '/').collect::<Vec<_>>();
    !hidden && naive_match(&split(pattern), &split(topic))
}

/// Every topic of up to four levels, one more than any filter here has before its `#`.
fn all_topics() -> Vec<String> {
    let mut topics: Vec<String> = LEVELS.iter().map(|level| (*level).to_owned()).collect();
    let mut last = topics.clone();
    for _ in 0..3 {
        last = last.iter().flat_map(|topic| LEVELS.iter().map(move |level| format!("{topic}/{level}"))).collect();
        topics.extend(last.iter().cloned());
    }
    topics
}

proptest! {
    #[test]
    fn patterns_match_as_the_specification_says(pattern in filter(), topic in topic()) {
        let matcher = Matcher::levels(&pattern).map_err(|e| TestCaseError::fail(e.to_string()))?;
        prop_assert_eq!(matcher.capture(&topic, &mut [""; CAPTURES_MAX]), naive(&pattern, &topic));
    }

    #[test]
    fn captures_put_the_topic_together_again(pattern in filter(), topic in topic()) {
        let matcher = Matcher::levels(&pattern).map_err(|e| TestCaseError::fail(e.to_string()))?;
        let mut captures = [""; CAPTURES_MAX];
        if matcher.capture(&topic, &mut captures) {
            let mut next = captures.iter();
            let mut fill = |level: &str| match level {
                "+" | "#" => (*next.next().unwrap_or(&"?")).to_owned(),
                level => level.to_owned(),
            };
            let again = pattern.split('/').map(&mut fill).collect::<Vec<_>>().join("/");
            // `a/#` matches the parent `a` and captures nothing there.
            prop_assert!(again == topic || again == format!("{topic}/"), "{} {}", again, topic);
        }
    }

    #[test]
    fn what_a_topic_template_gives_is_a_kafka_topic_or_an_error(capture in ".{0,300}") {
        let template = TopicTemplate::parse("{1}", &[None]).map_err(|e| TestCaseError::fail(e.to_string()))?;
        if let Ok(name) = template.render("", &[&capture]) {
            prop_assert!(name.parse::<KafkaTopic>().is_ok());
            prop_assert_eq!(name.chars().count(), capture.chars().count());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// With one level name that no filter says and topics one level longer than any filter, the enumeration is a proof.
    #[test]
    fn covering_is_exact(pattern in filter(), wanted in filter()) {
        thread_local!(static TOPICS: Vec<String> = all_topics());
        let matcher = Matcher::levels(&pattern).map_err(|e| TestCaseError::fail(e.to_string()))?;
        let filter: Filter = wanted.parse().map_err(|e: FilterError| TestCaseError::fail(e.to_string()))?;
        let want = TOPICS.with(|topics| {
            topics.iter().filter(|topic| naive(&wanted, topic)).all(|topic| naive(&pattern, topic))
        });
        prop_assert_eq!(matcher.covers(&filter), want);
    }
}
