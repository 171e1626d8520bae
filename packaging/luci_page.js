// Renders a view of ours as LuCI's loader does, against stand-ins of what it requires, and prints the page as one line for
// each element and text. LuCI's E() takes a bare string as HTML and a list's strings as text: so does this one.
//
//   node luci_page.js VIEW.js ANSWERS.json      ANSWERS: "object.method" -> what ubus answers
'use strict';
const fs = require('fs');
const [ file, answers ] = [ process.argv[2], JSON.parse(fs.readFileSync(process.argv[3], 'utf8')) ];
const asked = [];

function node(tag, attributes, children) {
	const made = { tag, attributes, children: [] };
	made.replaceChildren = (...others) => { made.children = others; };
	if (typeof children === 'string')
		made.children.push({ html: children });
	else if (children != null)
		made.children = (Array.isArray(children) ? children : [ children ])
			.map(child => typeof child === 'string' ? { text: child } : child);
	return made;
}

function print(made, depth) {
	const pad = ' '.repeat(depth);
	if ('html' in made || 'text' in made)
		return console.log(pad + ('html' in made ? 'HTML ' + made.html : 'text ' + made.text));
	for (const [ name, value ] of Object.entries(made.attributes || {}))
		if (typeof value !== 'function' && /^on|^(src|href|style)$/i.test(name))
			console.log(pad + 'ATTRIBUTE ' + name + '=' + value);
	console.log(pad + made.tag + ('value' in made ? ' ' + JSON.stringify(made.value) : ''));
	made.children.forEach(child => print(child, depth + 1));
}

String.prototype.format = function(...values) {
	return this.replace(/%s/g, () => values.shift());
};

const E = (tag, attributes, children) => node(tag, attributes, children);
const translate = text => text;
const document = { createTextNode: text => ({ text }) };
const section = new Proxy({}, { get: (all, name) => name in all ? all[name] : () => ({ value() {} }), set: (all, name, value) => (all[name] = value, true) });
const form = new Proxy({ Map: class { section() { return section; } render() { return node('form', {}, []); } } },
	{ get: (all, name) => all[name] || class {} });
const modules = {
	view: { extend: parts => parts },
	rpc: { declare: ({ object, method, params, expect }) => (...values) => {
		asked.push({ object, method, values });
		const answer = answers[object + '.' + method];
		const wanted = Object.keys(expect || {})[0];
		return Promise.resolve(wanted ? answer[wanted] : answer);
	} },
	poll: { add: act => modules.poll.acts.push(act), acts: [] },
	ui: { createHandlerFn: (view, name, ...words) => () => view[name](...words), addNotification: (title, content) => print(content, 0) },
	uci: { load: () => Promise.resolve(), sections: () => [ { '.name': 'plc_1', '.anonymous': false } ], get: () => null, add() {} },
	form
};
const source = fs.readFileSync(file, 'utf8');
const names = [ ...source.matchAll(/^'require (\w+)';$/gm) ].map(match => match[1]);
const view = new Function(...names, 'E', '_', 'document', 'window', source)(...names.map(name => modules[name]), E, translate, document, {});

Promise.resolve(view.load()).then(loaded => view.render(loaded)).then(page => Promise.all(modules.poll.acts.map(act => act()))
	.then(() => print(page, 0)));
