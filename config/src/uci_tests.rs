//! The same in UCI: files good, odd and broken, as somebody or LuCI leaves them.

use super::tests::{Dir, GOOD};
use super::*;

const UCI: &str = "config server 'server'\n\toption url 'https://remote.example.com'\n\nconfig identity 'identity'\n\
                       \toption name 'site12'\n\toption secret_file 'secret'\n";

struct Root(Dir);

impl Root {
    fn new() -> Self {
        let dir = Dir::new();
        std::fs::create_dir(dir.0.path().join("config")).unwrap();
        std::fs::create_dir(dir.0.path().join("linkspan")).unwrap();
        dir.write("linkspan/secret", "hunter2\n");
        Self(dir)
    }

    fn load(&self, content: &str) -> Result<Config, Problems> {
        load(&self.0.write("config/linkspan", content))
    }

    fn problems(&self, content: &str) -> String {
        let text = self.load(content).map(|config| config.warnings).unwrap_or_else(|problems| problems.0);
        Problems(text).to_string().replace(&format!("{}/", self.0.0.path().display()), "")
    }
}

#[test]
fn a_file_of_uci_says_what_the_file_of_toml_says() {
    let uci = format!(
        "package linkspan\n{UCI}\nconfig limits limits\n\toption max_streams 64 # few\n\toption drain \"2s\"\n\
             config device 'press_3'\n\toption host '192.168.1.10'\n\tlist tags 'press'\n\tlist tags 'hall 2'\n\
             \toption description 'Press 3, \"left\" cabinet'\nconfig service\n\toption device 'press-3'\n\
             \toption name 'web'\n\toption kind 'http'\n\toption port '8080'\n\toption compress '1'\n\
             config service\n\toption name ssh; option kind ssh; option device cam\n\
             config device\n\toption name 'cam'\n\toption host 'camera.local'\n\toption description ''\n\toption tags 'eye'\n"
    );
    let toml = GOOD.to_owned()
        + "[limits]\nmax_streams = 64\ndrain = \"2s\"\n\
               [[device]]\nname = \"press-3\"\nhost = \"192.168.1.10\"\ntags = [\"press\", \"hall 2\"]\n\
               description = \"Press 3, \\\"left\\\" cabinet\"\n[[device.service]]\nname = \"web\"\nkind = \"http\"\n\
               port = 8080\ncompress = true\n[[device]]\nname = \"cam\"\nhost = \"camera.local\"\ntags = [\"eye\"]\n\
               [[device.service]]\nname = \"ssh\"\nkind = \"ssh\"\n";
    let root = Root::new();
    let read = root.load(&uci).unwrap();
    let home = root.0.write("linkspan/gateway.toml", &toml);
    let own = |config: &Config| Config {
        file: PathBuf::new(),
        warnings: Vec::new(),
        shown: None,
        counting: None,
        ..config.clone()
    };
    assert_eq!(own(&read), own(&load(&home).unwrap()));
    assert_eq!(read.shown, None, "what cannot be told apart for sure is not shown to the server");
    assert_eq!(read.status_socket, root.0.0.path().join("linkspan/gateway.sock"));
}

#[test]
fn on_openwrt_the_paths_are_those_of_the_toml_file() {
    let file = Path::new(UCI_FILE);
    assert!(is_uci(file) && !is_uci(Path::new(DEFAULT_FILE)) && !is_uci(Path::new("/srv/config/gw.toml")));
    assert_eq!(home(file), Path::new(DEFAULT_FILE));
    assert_eq!(status_socket(file), Path::new("/run/linkspan/gateway.sock"));
}

#[test]
fn what_libuci_takes_is_taken() {
    let root = Root::new();
    for odd in [
        "c server server\no url https://remote.example.com\nc identity\no name site12\no secret_file secret",
        "config server server\r\n\toption url https://\\\nremote.example.com\nconfig identity\noption name \"si\"'te'12\n\
             option 'secret_file' \"secr\\et\"",
        "# first\n\n;;config server;option url https://remote.example.com;config identity x;option name site12\n\
             config identity x\noption secret_file secret#not a name",
    ] {
        let config = root.load(odd).unwrap_or_else(|problems| panic!("{odd}: {problems}"));
        assert_eq!(
            (config.server.at.to_string().as_str(), config.identity.name.as_str()),
            ("remote.example.com:443", "site12")
        );
        assert_eq!(config.identity.credential, Credential::Secret(Secret::new("hunter2")));
    }
    let list = UCI.replace("option url", "list url 'https://a.example'\n\tlist url");
    assert_eq!(root.load(&list).unwrap().server.others.len(), 1);
}

#[test]
fn problems_have_their_place_and_the_words_of_uci() {
    let root = Root::new();
    let text = "option early '1'\nconfig server\n\toption url 'http://x'\n\toption ca_fil 'x'\nconfig identity\n\
                    config identity\n\toption name 'b'\nconfig device 'plc1'\n\toption host '192.168.1.10:80'\n\
                    config service\n\toption device 'plc1'\n\toption name 'x'\n\toption kind 'tcp'\n\
                    config service\n\toption device 'plc2'\nconfig service\n\toption name 'y'\nnonsense\n\
                    config limits\n\toption max_streams 'many'\n\tlist drain '1s'\n\toption drain '2s'\n\
                    config device 'unclosed\n\toption host \"x\n";
    let expected = "\
config/linkspan:1:8: an option before the first section; write config TYPE 'NAME' above it
config/linkspan:3:13: the server's url must begin with https://; write \"https://remote.example.com\", with \":port\" if it is not 443
config/linkspan:4:9: unknown key `ca_fil` in `config server`; did you mean `ca_file`?
config/linkspan:5:1: `name` is missing in `config identity`; write option name 'site12'
config/linkspan:5:1: `secret_file` is missing in `config identity`; write option secret_file 'gateway.secret', the file that holds the shared secret (or enrol: `linkspan-gateway enroll URL CODE`)
config/linkspan:6:8: a second section of type identity; put its options into the first one
config/linkspan:9:14: this is neither an address nor a name; write the host alone; the port goes into `config service` as port = …
config/linkspan:10:1: `port` is missing; write option port 102, the device's TCP port
config/linkspan:15:16: there is no device of this name; did you mean 'plc1'?
config/linkspan:16:1: this service does not say whose it is; write option device 'plc1'
config/linkspan:18:1: this is no line of UCI; write config TYPE 'NAME', option NAME 'VALUE' or list NAME 'VALUE'
config/linkspan:20:21: `max_streams` is out of range; write a number from 1 to 1024
config/linkspan:22:9: warning: `drain` stands twice in this section, and the later one counts; remove one of the two
config/linkspan:23:1: `host` is missing in `config device`; write option host '192.168.1.10'
config/linkspan:23:1: warning: this device has no service, so nothing of it can be reached; write `config service` with name, kind and port after it
config/linkspan:23:15: the closing ' is missing; write it";
    let told = root.problems(text);
    assert!(told.starts_with(expected), "{told}");
}

#[test]
fn a_hostile_file_costs_neither_time_nor_pages_and_shows_no_secret() {
    let root = Root::new();
    let services = "config service\n\toption device 'nobody'\n".repeat(20_000);
    assert_eq!(root.problems(&format!("{UCI}{services}")).lines().count(), 100);
    root.problems(&"a ".repeat(500_000));
    root.problems(&"config device\noption name 'd'\n".repeat(20_000));
    root.problems(&(0..40_000).map(|n| format!("config a {n}\n")).collect::<String>());
    root.problems(&"'\"\\".repeat(100_000));
    for bad in ["http://me:hunter2@proxy", "http://me:hunter2'", "hunter2\nhunter2"] {
        let text = UCI.replace("config identity", &format!("\toption proxy '{bad}'\nconfig identity"));
        assert!(!root.problems(&text).contains("hunter2"), "{bad}");
    }
}
