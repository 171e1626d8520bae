'use strict';
'require view';
'require rpc';
'require poll';
'require ui';

/* All that is shown comes from the gateway, the server or the LAN: it goes into text nodes, never into HTML. */

const callStatus = rpc.declare({ object: 'linkspan', method: 'status', expect: {} });
const callCheck = rpc.declare({ object: 'linkspan', method: 'check', expect: {} });
const callEnroll = rpc.declare({ object: 'linkspan', method: 'enroll', params: [ 'url', 'code' ], expect: {} });
const callServices = rpc.declare({ object: 'rc', method: 'list', params: [ 'name' ], expect: {} });
const callInit = rpc.declare({ object: 'rc', method: 'init', params: [ 'name', 'action' ], expect: {} });

function text(value) {
	return document.createTextNode(value == null ? '' : String(value));
}

function bytes(count) {
	const units = [ 'B', 'kB', 'MB', 'GB', 'TB' ];
	let size = Number(count) || 0, unit = 0;
	while (size >= 1000 && unit < units.length - 1) {
		size /= 1000;
		unit++;
	}
	return (unit ? size.toFixed(1) : size) + ' ' + units[unit];
}

function row(name, value) {
	return E('tr', { 'class': 'tr' }, [
		E('td', { 'class': 'td left', 'width': '33%' }, [ text(name) ]),
		E('td', { 'class': 'td left' }, [ text(value) ])
	]);
}

function table(head, rows) {
	return E('table', { 'class': 'table' }, [
		E('tr', { 'class': 'tr table-titles' }, head.map(title => E('th', { 'class': 'th' }, [ text(title) ])))
	].concat(rows.map(cells => E('tr', { 'class': 'tr' }, cells.map(cell => E('td', { 'class': 'td' }, [ text(cell) ]))))));
}

const STATES = {
	waiting: _('Not connected'),
	dialing: _('Connecting'),
	connected: _('Connected'),
	superseded: _('Replaced by another gateway of this name'),
	draining: _('Stopping')
};

function linkRows(status) {
	const link = status.link || {}, data = status.data || {}, error = link.last_error;
	const rows = [
		row(_('Name'), status.name),
		row(_('Server'), link.server),
		row(_('Link'), STATES[link.state] || link.state)
	];
	if (error)
		rows.push(row(_('Last failure'), error.step + ': ' + error.what + ' – ' + error.advice));
	if (data.month) {
		const used = bytes((data.sent || 0) + (data.received || 0)), caps = [ data.cap, data.server_cap ].map(cap => (cap || {}).hard).filter(Boolean);
		rows.push(row(_('Data used in %s').format(data.month), caps.length ? _('%s of %s').format(used, bytes(Math.min(...caps))) : used));
	}
	(status.config_problems || []).forEach(problem => rows.push(row(_('Configuration'), problem)));
	return rows;
}

function deviceRows(status) {
	const rows = [];
	(status.devices || []).forEach(device => (device.services || []).forEach(service => rows.push([
		device.name, device.host, service.name, service.kind, service.port, service.open,
		device.refused || service.last_error || ''
	])));
	return rows;
}

/* What is there now comes first. */
function discoveredRows(found) {
	return found.slice().sort((one, other) => other.present - one.present).map(device => [
		device.name || '', device.address || '', device.key.replace(/^mac:/, ''), device.about || '',
		device.present ? _('yes') : _('no')
	]);
}

return view.extend({
	load: function() {
		return Promise.all([ callStatus(), callServices('linkspan'), callCheck() ]);
	},

	fill: function(status, check) {
		const page = [];
		if (status.link) {
			page.push(E('table', { 'class': 'table' }, linkRows(status)));
			page.push(E('h3', {}, [ text(_('Devices')) ]));
			page.push(table([ _('Device'), _('Address'), _('Service'), _('Kind'), _('Port'), _('Open'), _('Last failure') ], deviceRows(status)));
			const discovery = status.discovery || {};
			if (discovery.enabled) {
				page.push(E('h3', {}, [ text(_('Found on the LAN')) ]));
				page.push(E('p', {}, [ text(_('Nothing of this can be reached before it is listed under Devices, here or by the people of the server.')) ]));
				page.push(table([ _('Name'), _('Address'), _('Known by'), _('Maker and model'), _('There now') ], discoveredRows(discovery.found || [])));
			}
		}
		else {
			page.push(E('p', {}, [ text(_('The gateway is not at work.')) ]));
			if (check && !check.ok)
				page.push(E('pre', {}, [ text(check.text) ]));
		}
		return page;
	},

	switchAccess: function(on) {
		const steps = on ? [ 'enable', 'start' ] : [ 'stop', 'disable' ];
		return steps.reduce((done, step) => done.then(() => callInit('linkspan', step)), Promise.resolve())
			.then(() => window.location.reload());
	},

	enroll: function(url, code) {
		return callEnroll(url.value.trim(), code.value.trim()).then(answer => {
			code.value = '';
			ui.addNotification(null, E('pre', {}, [
				text(answer.ok ? _('Enrolled as %s.').format(answer.text) : answer.text)
			]), answer.ok ? 'info' : 'error');
		});
	},

	render: function([ status, services, check ]) {
		const running = (services.linkspan || {}).enabled === true;
		const shown = E('div', {}, this.fill(status, check));
		const url = E('input', { 'class': 'cbi-input-text', 'type': 'text', 'placeholder': 'https://remote.example.com' });
		const code = E('input', { 'class': 'cbi-input-text', 'type': 'text', 'autocomplete': 'off', 'placeholder': 'K7QM-3XTD-9VWP-4RHC' });

		poll.add(() => callStatus().then(now => {
			if (!now.link)
				return callCheck().then(problems => [ now, problems ]);
			return [ now, null ];
		}).then(([ now, problems ]) => shown.replaceChildren(...this.fill(now, problems))), 5);

		return E('div', {}, [
			E('h2', {}, [ text(_('Linkspan')) ]),
			E('div', { 'class': 'cbi-section' }, [
				E('h3', {}, [ text(_('Remote access')) ]),
				E('p', {}, [ text(running ? _('Devices of this router can be reached through the server.')
					: _('Switched off: nothing on this router can be reached from outside.')) ]),
				E('button', {
					'class': 'btn cbi-button ' + (running ? 'cbi-button-negative' : 'cbi-button-positive'),
					'click': ui.createHandlerFn(this, 'switchAccess', !running)
				}, [ text(running ? _('Switch off') : _('Switch on')) ])
			]),
			E('div', { 'class': 'cbi-section' }, [ shown ]),
			E('div', { 'class': 'cbi-section' }, [
				E('h3', {}, [ text(_('Enrol')) ]),
				E('p', {}, [ text(_('The claim code is what `linkspan-server gateway add NAME` printed; it is good once.')) ]),
				url, ' ', code, ' ',
				E('button', { 'class': 'btn cbi-button cbi-button-action', 'click': ui.createHandlerFn(this, 'enroll', url, code) },
					[ text(_('Enrol')) ])
			])
		]);
	},

	handleSave: null,
	handleSaveApply: null,
	handleReset: null
});
