'use strict';
'require view';
'require form';
'require uci';

/* Save & Apply is UCI's own: the init script's trigger tells the gateway by a signal. */

const KINDS = [ 'http', 'https', 'ssh', 'vnc', 'rdp', 'tcp' ];

return view.extend({
	load: function() {
		return uci.load('linkspan');
	},

	render: function() {
		const map = new form.Map('linkspan', _('Linkspan'), _('Every option is that of gateway.toml. A change that cannot be used leaves the gateway as it is; the status says why.'));
		let section, option;

		section = map.section(form.NamedSection, 'server', 'server', _('Server'));
		section.addremove = false;
		option = section.option(form.DynamicList, 'url', _('Address'), _('Of several, the first that answers is taken.'));
		option.placeholder = 'https://remote.example.com';
		section.option(form.Value, 'ca_file', _('CA certificates'), _('A file; default: those of the system.'));
		section.option(form.Value, 'fingerprint', _('Fingerprint'), _('Instead of any CA: the SHA-256 of the server’s own certificate.'));
		option = section.option(form.Value, 'proxy', _('HTTP proxy'));
		option.password = true;
		option.placeholder = 'http://user:password@proxy:3128';

		section = map.section(form.NamedSection, 'policy', 'policy', _('What the owner of this router allows'));
		section.addremove = false;
		option = section.option(form.Flag, 'central', _('Configuration from the server'), _('The people of the server may change which devices are listed.'));
		option.default = '1';
		option.rmempty = false;
		option = section.option(form.DynamicList, 'networks', _('Networks'), _('Devices are only ever reached in these; default: all.'));
		option.datatype = 'or(cidr4, cidr6)';
		section.option(form.DynamicList, 'ports', _('Ports'), _('Only these are ever reached: 80, 5900-5999; default: all.'));
		section.option(form.DynamicList, 'never', _('Never'), _('Never published: a device, device:service or kind:vnc.'));

		section = map.section(form.NamedSection, 'traffic', 'traffic', _('Data of a month'));
		section.addremove = false;
		option = section.option(form.Value, 'warn', _('Warn at'));
		option.placeholder = '400 MB';
		option = section.option(form.Value, 'cap', _('Carry no more than'));
		option.placeholder = '500 MB';

		section = map.section(form.GridSection, 'device', _('Devices'), _('What can be reached; nothing else on the LAN can.'));
		section.addremove = true;
		section.anonymous = true;
		option = section.option(form.Value, 'name', _('Name'));
		option.datatype = 'maxlength(40)';
		option.rmempty = false;
		option = section.option(form.Value, 'host', _('Address'));
		option.datatype = 'host';
		option.rmempty = false;
		section.option(form.Value, 'description', _('Description'));
		section.option(form.DynamicList, 'tags', _('Tags')).modalonly = true;

		section = map.section(form.GridSection, 'service', _('Services'));
		section.addremove = true;
		section.anonymous = true;
		option = section.option(form.ListValue, 'device', _('Device'));
		uci.sections('linkspan', 'device').forEach(device => {
			const name = device.name || (device['.anonymous'] ? null : device['.name'].replace(/_/g, '-'));
			if (name)
				option.value(name);
		});
		option.rmempty = false;
		option = section.option(form.Value, 'name', _('Name'));
		option.datatype = 'maxlength(20)';
		option.rmempty = false;
		option = section.option(form.ListValue, 'kind', _('Kind'));
		KINDS.forEach(kind => option.value(kind));
		option.rmempty = false;
		option = section.option(form.Value, 'port', _('Port'));
		option.datatype = 'port';
		option = section.option(form.Value, 'rate', _('Rate'));
		option.placeholder = '500 kbit/s';
		option.modalonly = true;
		option = section.option(form.Flag, 'compress', _('Pack'));
		option.modalonly = true;

		section = map.section(form.NamedSection, 'log', 'log', _('Log'));
		section.addremove = false;
		option = section.option(form.ListValue, 'level', _('Level'));
		[ 'error', 'warn', 'info', 'debug' ].forEach(level => option.value(level));
		option.default = 'info';

		[ 'server', 'policy', 'traffic', 'log' ].forEach(name => {
			if (!uci.get('linkspan', name))
				uci.add('linkspan', name, name);
		});
		return map.render();
	}
});
