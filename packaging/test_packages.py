"""What we ship, looked at as those look at it who take it: opkg, procd's shell, LuCI, bitbake, systemd.

    python3 -m unittest discover -s packaging
"""

import gzip
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import unittest
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TOP / "packaging"))

import apk  # noqa: E402
import crates_inc  # noqa: E402
import ipk  # noqa: E402

INIT = ipk.PACKAGE / "files" / "linkspan.init"


def run(command, **options):
    return subprocess.run(command, capture_output=True, text=True, timeout=60, **options)


class Folder(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="linkspan-packaging-"))
        self.addCleanup(shutil.rmtree, self.folder)
        # What the program is does not matter to its wrapping; routers.rs runs the real ones.
        self.cross = self.folder / "cross"
        for target in ("mips", "armv7"):
            (self.cross / target).mkdir(parents=True)
            (self.cross / target / "linkspan-gateway").write_bytes(b"\x7fELF" + target.encode() * 5000)
        self.environment = {**os.environ, "LINKSPAN_CROSS": str(self.cross)}


class Ipk(Folder):
    def make(self, output, *words, top=TOP):
        made = run([sys.executable, str(top / "packaging/ipk.py"), str(output), *words], env=self.environment)
        self.assertEqual(made.returncode, 0, made.stderr)

    def unpack(self, content):
        with tarfile.open(fileobj=io.BytesIO(gzip.decompress(content))) as archive:
            return [(member, archive.extractfile(member).read() if member.isfile() else None) for member in archive]

    def test_a_package_is_what_opkg_expects_field_by_field(self):
        self.make(self.folder / "feed")
        package = self.folder / "feed/mips_24kc/linkspan-gateway_0.1.0-r1_mips_24kc.ipk"
        outer = self.unpack(package.read_bytes())
        self.assertEqual([member.name for member, _ in outer], ["./debian-binary", "./data.tar.gz", "./control.tar.gz"])
        parts = {member.name: content for member, content in outer}
        self.assertEqual(parts["./debian-binary"], b"2.0\n")
        data, control = self.unpack(parts["./data.tar.gz"]), self.unpack(parts["./control.tar.gz"])
        for member, _ in outer + data + control:
            self.assertEqual((member.uid, member.gid, member.mtime), (0, 0, 0), member.name)
        modes = {member.name: member.mode for member, content in data if content is not None}
        self.assertEqual(modes, {
            "./etc/config/linkspan": 0o600, "./etc/init.d/linkspan": 0o755, "./etc/uci-defaults/99-linkspan": 0o755,
            "./lib/upgrade/keep.d/linkspan-gateway": 0o644, "./usr/bin/linkspan-gateway": 0o755,
        })
        names = [member.name for member, _ in data]
        self.assertEqual(names, sorted(names), "every folder stands before its files")
        files = {member.name: content for member, content in control}
        fields = dict(line.split(": ", 1) for line in files["./control"].decode().splitlines())
        expected = {
            "Package": "linkspan-gateway", "Version": "0.1.0-r1", "Architecture": "mips_24kc", "License": "Apache-2.0",
            "Depends": "ca-bundle", "Section": "net", "Require-User": "linkspan=7310:linkspan=7310",
            "Installed-Size": str(len(gzip.decompress(parts["./data.tar.gz"]))),
        }
        self.assertEqual({key: fields[key] for key in expected}, expected)
        self.assertEqual(list(fields)[-1], "Description")
        self.assertEqual(files["./conffiles"], b"/etc/config/linkspan\n")
        for script in ("./postinst", "./prerm"):
            self.assertEqual(run(["busybox", "ash", "-n"], input=files[script].decode()).returncode, 0)
            self.assertIn(b"default_" + script[2:].encode(), files[script])

    def test_the_version_is_the_workspace_s(self):
        with open(TOP / "Cargo.toml", "rb") as file:
            version = tomllib.load(file)["workspace"]["package"]["version"]
        self.assertEqual(ipk.makefile("PKG_VERSION"), version)

    def test_another_machine_and_another_day_make_the_same_bytes(self):
        other = self.folder / "elsewhere"
        for part in ("packaging", "openwrt-package"):
            shutil.copytree(TOP / part, other / part, copy_function=shutil.copyfile)
        self.make(self.folder / "one")
        self.make(self.folder / "two", top=other)
        files = sorted(path.relative_to(self.folder / "one") for path in (self.folder / "one").rglob("*") if path.is_file())
        self.assertGreater(len(files), 10)
        for file in files:
            self.assertEqual((self.folder / "one" / file).read_bytes(), (self.folder / "two" / file).read_bytes(), file)

    def test_the_index_is_signed_and_names_what_is_there(self):
        key = self.folder / "feed.sec"
        made = run(["signify-openbsd", "-G", "-n", "-p", str(self.folder / "feed.pub"), "-s", str(key)])
        self.assertEqual(made.returncode, 0, made.stderr)
        self.make(self.folder / "feed", "--key", str(key))
        feed = self.folder / "feed/arm_cortex-a9_vfpv3-d16"
        index = (feed / "Packages").read_text()
        self.assertEqual(gzip.decompress((feed / "Packages.gz").read_bytes()).decode(), index)
        verify = ["signify-openbsd", "-V", "-q", "-p", str(self.folder / "feed.pub"), "-m", str(feed / "Packages"), "-x", str(feed / "Packages.sig")]
        self.assertEqual(run(verify).returncode, 0)
        blocks = [dict(line.split(": ", 1) for line in block.splitlines()) for block in index.strip().split("\n\n")]
        self.assertEqual([block["Package"] for block in blocks], ["linkspan-gateway", "luci-app-linkspan"])
        for block in blocks:
            content = (feed / block["Filename"]).read_bytes()
            self.assertEqual((block["Size"], block["SHA256sum"]), (str(len(content)), hashlib.sha256(content).hexdigest()))
            self.assertFalse(set(ipk.NOT_IN_INDEX) & set(block))
        (feed / "Packages").write_text(index.replace("0.1.0", "0.1.1"))
        self.assertNotEqual(run(verify).returncode, 0, "a changed index is noticed")


class Apk(Folder):
    def test_the_trees_and_the_calls_are_those_of_apk_mkpkg(self):
        made = run([sys.executable, str(TOP / "packaging/apk.py"), str(self.folder / "out")], env=self.environment)
        self.assertEqual(made.returncode, 0, made.stderr)
        folder = self.folder / "out/mips_24kc"
        files = folder / "linkspan-gateway/files"
        static = (files / "lib/apk/packages/linkspan-gateway.conffiles_static").read_text().split()
        self.assertEqual(static, ["/etc/config/linkspan", hashlib.sha256((files / "etc/config/linkspan").read_bytes()).hexdigest()])
        self.assertEqual((files / "etc/config/linkspan").stat().st_mode & 0o777, 0o600)
        for package in ("linkspan-gateway", "luci-app-linkspan"):
            listed = (folder / package / f"files/lib/apk/packages/{package}.list").read_text().split()
            there = {f"/{path.relative_to(folder / package / 'files')}" for path in (folder / package / "files").rglob("*") if path.is_file()}
            self.assertEqual(set(listed), {path for path in there if not path.startswith("/lib/apk/")})
            for script in apk.STEPS:
                text = (folder / package / script).read_text()
                self.assertEqual(run(["busybox", "ash", "-n"], input=text).returncode, 0)
                self.assertIn(f'pkgname="{package}"', text)
        calls = (folder / "make.sh").read_text()
        self.assertIn("--info name:linkspan-gateway --info version:0.1.0-r1 --info arch:mips_24kc", calls)
        self.assertIn("--info name:luci-app-linkspan --info version:0.1.0-r1 --info arch:noarch", calls)
        self.assertIn("--script post-install:luci-app-linkspan/post-install", calls)
        self.assertIn("apk mkndx --output packages.adb linkspan-gateway-0.1.0-r1.apk luci-app-linkspan-0.1.0-r1.apk", calls)


# Stand-ins for procd's functions and for what needs a router's root: each notes what it was asked.
STANDINS = """
note() { printf '%s\\n' "$*" >> "$NOTES"; }
for name in procd_open_instance procd_set_param procd_close_instance procd_add_jail procd_add_jail_mount procd_add_jail_mount_rw \\
	procd_add_reload_trigger chown chgrp chmod mkdir; do
	eval "$name() { note $name \\"\\$@\\"; }"
done
. "$INIT"
"""


class InitScript(Folder):
    def asked(self, *steps, config="config server 'server'\n"):
        notes, root = self.folder / "notes", self.folder / "root"
        root.mkdir(exist_ok=True)
        if config is not None:
            (root / "linkspan").write_text(config)
        script = STANDINS + f'CONFIG="{root}/linkspan"; STATE="{root}/state"; RUN="{root}/run"; SEEN="{root}/seen"; PROGRAMS="{root}/programs"\n' + "\n".join(steps)
        ran = run(["busybox", "ash", "-eu", "-c", script], env={"NOTES": str(notes), "INIT": str(INIT), "PATH": os.environ["PATH"]})
        self.assertEqual((ran.returncode, ran.stderr), (0, ""))
        return notes.read_text().replace(str(root), "").splitlines()

    def test_it_always_opens_its_instance(self):
        for config in ("config server 'server'\n", "config server 'unclosed", "", None):
            asked = self.asked("start_service", config=config)
            self.assertEqual(asked.count("procd_open_instance gateway"), 1, config)
            self.assertEqual(asked.count("procd_close_instance"), 1, config)
            (self.folder / "notes").unlink()

    def test_the_instance_has_its_own_user_never_gives_up_and_is_reloaded_by_a_signal(self):
        asked = self.asked("start_service")
        for wanted in (
            "procd_set_param command /usr/bin/linkspan-gateway run --stay --config /linkspan",
            "procd_set_param file /linkspan", "procd_set_param reload_signal HUP", "procd_set_param respawn 3600 5 0",
            "procd_set_param user linkspan", "procd_set_param group linkspan", "procd_set_param no_new_privs 1",
            "procd_set_param stdout 1", "procd_set_param stderr 1",
            "chgrp linkspan /linkspan", "chmod 0640 /linkspan", "chmod 0700 /state /run /seen /programs",
            "procd_set_param env STATE_DIRECTORY=/programs",
        ):
            self.assertIn(wanted, asked)

    def test_the_files_are_the_gateway_s_before_it_is_told_of_them(self):
        asked = self.asked("start_service")
        self.assertLess(asked.index("chgrp linkspan /linkspan"), asked.index("procd_open_instance gateway"))

    def test_the_jail_shows_the_folder_of_uci_and_writes_only_its_own(self):
        asked = self.asked("jail")
        self.assertEqual(asked[0], "procd_add_jail linkspan log procfs")
        shown = " ".join(asked[1:])
        self.assertIn("/etc/config ", shown)
        self.assertIn("procd_add_jail_mount_rw /state /run /seen /programs", asked)

    def test_a_change_of_the_file_is_told(self):
        self.assertEqual(self.asked("service_triggers"), ["procd_add_reload_trigger linkspan"])

    def test_no_secret_is_on_a_command_line(self):
        self.assertNotRegex(INIT.read_text(), r"config_get|secret|token|code")


class Defaults(Folder):
    SCRIPT = ipk.PACKAGE / "files" / "linkspan.defaults"

    def ran(self, known):
        (self.folder / "uci").write_text("".join(f"{key}={value}\n" for key, value in known.items()))
        standin = """
uci() {
	[ "$1" = -q ] && shift
	case "$1" in
	get) grep -q "^$2=" "$UCI" && sed -n "s/^$2=//p" "$UCI" ;;
	set) grep -v "^${2%%=*}=" "$UCI" > "$UCI.new"; printf '%s\\n' "$2" >> "$UCI.new"; mv "$UCI.new" "$UCI" ;;
	commit) echo committed >> "$UCI" ;;
	esac
}
mkdir() { :; }
. "$SCRIPT"
"""
        ran = run(["busybox", "ash", "-c", standin], env={"UCI": str(self.folder / "uci"), "SCRIPT": str(self.SCRIPT), "PATH": os.environ["PATH"]})
        self.assertEqual(ran.returncode, 0, ran.stderr)
        return (self.folder / "uci").read_text().splitlines()

    def test_a_new_router_gets_its_sections(self):
        lines = self.ran({})
        for wanted in ("linkspan.server=server", "linkspan.identity=identity", "linkspan.status.socket=/var/run/linkspan/gateway.sock", "committed"):
            self.assertIn(wanted, lines)

    def test_a_router_that_is_enrolled_keeps_its_name_and_its_socket(self):
        own = {"linkspan.identity": "identity", "linkspan.identity.name": "site12", "linkspan.status": "status", "linkspan.status.socket": "/tmp/s"}
        lines = self.ran(own)
        self.assertIn("linkspan.identity.name=site12", lines)
        self.assertIn("linkspan.status.socket=/tmp/s", lines)


class Luci(unittest.TestCase):
    VIEWS = sorted((ipk.LUCI / "htdocs").rglob("*.js"))

    def test_the_views_are_javascript(self):
        for view in self.VIEWS:
            checked = run(["node", "--check", "-"], input=f"(function() {{ {view.read_text()} }})")
            self.assertEqual(checked.returncode, 0, checked.stderr)

    def test_text_never_becomes_html(self):
        for view in self.VIEWS:
            text = view.read_text()
            self.assertNotRegex(text, r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b")
            # LuCI's E() takes a bare text as HTML; in a list it is text.
            self.assertNotRegex(text, r"""E\('\w+', \{[^}]*\}, ['"`_(]|E\('\w+', ['"`_]""")

    def page(self, view, **answers):
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump({name.replace("_", "."): answer for name, answer in answers.items()}, file)
            file.flush()
            folder = ipk.LUCI / "htdocs/luci-static/resources/view/linkspan"
            ran = run(["node", str(TOP / "packaging/luci_page.js"), str(folder / f"{view}.js"), file.name])
        self.assertEqual((ran.returncode, ran.stderr), (0, ""))
        return [line.strip() for line in ran.stdout.splitlines()]

    def test_the_status_shows_link_devices_what_was_found_and_the_data_of_the_month(self):
        odd = "<img src=x onerror=alert(1)>"
        status = {
            "name": odd, "config_problems": [odd],
            "link": {"server": odd, "state": odd, "last_error": {"step": odd, "what": odd, "advice": odd}},
            "data": {"month": "2026-11", "sent": 12_000_000, "received": 3_000_000, "cap": {"hard": 500_000_000}, "server_cap": {"hard": 450_000_000}},
            "devices": [{"name": odd, "host": odd, "services": [{"name": odd, "kind": odd, "port": 80, "open": 2, "last_error": odd}]}],
            "discovery": {"enabled": True, "found": [
                {"key": "ip:10.0.0.1", "present": False},
                {"key": "mac:02:4c:53:00:00:02", "name": odd, "address": odd, "about": odd, "present": True},
            ]},
        }
        page = self.page("status", linkspan_status=status, linkspan_check={"ok": True, "text": ""}, rc_list={"linkspan": {"enabled": True}})
        self.assertFalse([line for line in page if line.startswith(("HTML", "ATTRIBUTE"))])
        self.assertGreater(page.count("text " + odd), 9)
        for wanted in ("15.0 MB of 450.0 MB", "Switch off", "Found on the LAN", "02:4c:53:00:00:02", "Enrol"):
            self.assertIn("text " + wanted, page)
        self.assertLess(page.index("text 02:4c:53:00:00:02"), page.index("text ip:10.0.0.1"), "what is there comes first")

    def test_a_gateway_that_is_off_says_what_is_wrong(self):
        check = {"ok": False, "text": "linkspan:3:2: <b>"}
        page = self.page("status", linkspan_status={}, linkspan_check=check, rc_list={"linkspan": {"enabled": False}})
        for wanted in ("The gateway is not at work.", "linkspan:3:2: <b>", "Switch on"):
            self.assertIn("text " + wanted, page)
        self.assertFalse([line for line in page if line.startswith("HTML")])

    def test_the_log_and_the_settings_are_rendered(self):
        self.assertIn('textarea "a <b> line"', self.page("log", linkspan_log={"text": "a <b> line"}))
        self.assertEqual(self.page("settings"), ["form"])

    def test_menu_and_rights_name_what_is_there(self):
        menu = json.loads((ipk.LUCI / "root/usr/share/luci/menu.d/luci-app-linkspan.json").read_text())
        rights = json.loads((ipk.LUCI / "root/usr/share/rpcd/acl.d/luci-app-linkspan.json").read_text())
        self.assertEqual(list(rights), menu["admin/services/linkspan"]["depends"]["acl"])
        for entry in menu.values():
            if entry["action"]["type"] == "view":
                self.assertTrue((ipk.LUCI / "htdocs/luci-static/resources/view" / f'{entry["action"]["path"]}.js').is_file())
        granted = rights["luci-app-linkspan"]
        allowed = {name: set(granted["read"]["ubus"].get(name, [])) | set(granted["write"]["ubus"].get(name, [])) for name in ("linkspan", "rc")}
        for view in self.VIEWS:
            for called, method in re.findall(r"object: '(\w+)', method: '(\w+)'", view.read_text()):
                self.assertIn(method, allowed[called])
        self.assertNotIn("enroll", granted["read"]["ubus"]["linkspan"])

    def test_every_text_is_translated(self):
        texts = {text for view in self.VIEWS for text in re.findall(r"_\('((?:[^'\\]|\\.)*)'\)", view.read_text())}
        for file in ("po/templates/linkspan.pot", "po/de/linkspan.po"):
            known = set(re.findall(r'^msgid "(.+)"$', (ipk.LUCI / file).read_text(), re.MULTILINE))
            self.assertFalse(texts - known, file)
        self.assertEqual(run(["msgfmt", "-o", "/dev/null", str(ipk.LUCI / "po/de/linkspan.po")]).returncode, 0)
        self.assertNotIn('msgid ""\nmsgstr ""\n\n', (ipk.LUCI / "po/de/linkspan.po").read_text())


# Stand-ins for libubox's JSON in the shell, and a gateway that notes its words and its input.
RPCD = """
json_load() { :; }
json_get_var() { case "$2" in url) eval "$1=\\"\\$GIVEN_URL\\"" ;; code) eval "$1=\\"\\$GIVEN_CODE\\"" ;; esac; }
json_cleanup() { :; }
json_init() { :; }
json_add_boolean() { printf '%s=%s\\n' "$1" "$2"; }
json_add_string() { printf '%s=%s\\n' "$1" "$2"; }
json_dump() { :; }
uci() { printf 'uci %s\\n' "$*" >> "$NOTES"; }
"""


class Rpcd(Folder):
    def test_the_claim_code_is_on_no_command_line_and_a_strange_url_is_one_word(self):
        source = (ipk.LUCI / "root/usr/libexec/rpcd/linkspan").read_text()
        gateway, notes = self.folder / "gateway", self.folder / "notes"
        gateway.write_text(f'#!/bin/sh\nprintf "word %s\\n" "$@" >> {notes}\nread -r line\necho "input $line" >> {notes}\necho site12\n')
        gateway.chmod(0o755)
        init = self.folder / "init"
        init.write_text(f'#!/bin/sh\necho "init $1" >> {notes}\n')
        init.chmod(0o755)
        source = source.replace(". /usr/share/libubox/jshn.sh", RPCD).replace("PROG=/usr/bin/linkspan-gateway", f"PROG={gateway}")
        source = source.replace("/etc/init.d/linkspan", str(init))
        environment = {"PATH": os.environ["PATH"], "NOTES": str(notes), "GIVEN_URL": "https://a; rm -rf $(x)", "GIVEN_CODE": "K7QM-3XTD"}
        ran = run(["busybox", "ash", "-c", source, "linkspan", "call", "enroll"], input="{}\n", env=environment)
        self.assertEqual((ran.returncode, ran.stdout), (0, "ok=1\ntext=site12\n"), ran.stderr)
        noted = notes.read_text().splitlines()
        self.assertEqual(noted[:5], ["word enroll", "word https://a; rm -rf $(x)", "word -", "word --config", "word /etc/config/linkspan"])
        self.assertIn("input K7QM-3XTD", noted)
        self.assertIn("uci -q set linkspan.identity.name=site12", noted)
        self.assertEqual(noted[-2:], ["init enable", "init reload"])


class Yocto(unittest.TestCase):
    def test_the_crates_are_those_of_cargo_lock(self):
        self.assertEqual(crates_inc.LIST.read_text(), crates_inc.text())

    def test_the_recipe_is_of_this_version_and_licence(self):
        recipe = next(crates_inc.LIST.parent.glob("*.bb"))
        self.assertEqual(recipe.name, f"linkspan-gateway_{ipk.makefile('PKG_VERSION')}.bb")
        digest = hashlib.md5((TOP / "LICENSE").read_bytes()).hexdigest()
        self.assertIn(f"file://LICENSE;md5={digest}", recipe.read_text())

    def test_every_feature_of_the_gateway_can_be_left_out(self):
        with open(TOP / "gateway/Cargo.toml", "rb") as file:
            default = set(tomllib.load(file)["features"]["default"])
        recipe = next(crates_inc.LIST.parent.glob("*.bb")).read_text()
        self.assertEqual(set(re.findall(r"^PACKAGECONFIG\[(\w+)\]", recipe, re.MULTILINE)), default)

    def test_the_sysvinit_script_is_shell(self):
        script = crates_inc.LIST.parent / "files/linkspan-gateway.init"
        self.assertEqual(run(["busybox", "ash", "-n", str(script)]).returncode, 0)


class Systemd(Folder):
    UNITS = sorted((TOP / "systemd").glob("*.service"))

    def test_the_exposure_is_at_most_one_and_a_half(self):
        self.assertEqual(len(self.UNITS), 2)
        for unit in self.UNITS:
            checked = run(["systemd-analyze", "security", "--offline=true", "--threshold=15", "--no-pager", str(unit)])
            self.assertEqual(checked.returncode, 0, checked.stdout[-300:])

    def test_the_units_have_no_mistake(self):
        for unit in self.UNITS:
            text = re.sub(r"/usr/bin/linkspan-\w+", "/bin/true", unit.read_text())
            copy = self.folder / unit.name
            copy.write_text(text)
            checked = run(["systemd-analyze", "verify", "--man=no", str(copy)])
            self.assertEqual((checked.returncode, checked.stderr), (0, ""))


if __name__ == "__main__":
    unittest.main()
