// Values come by WebSocket, the diagnostic buffer by server-sent events.
"use strict";
const show = (id, text) => { document.getElementById(id).textContent = text; };

function values(v) {
  for (const id of ["level", "setpoint", "inflow", "outflow", "cycle"]) show(id, v[id].toFixed(1));
  show("pressure", v.pressure.toFixed(2));
  show("t1", v.temperature[0].toFixed(1));
  show("t2", v.temperature[1].toFixed(1));
  show("uptime", v.uptime);
  show("percent", v.level.toFixed(0) + " %");
  const water = document.getElementById("water");
  water.setAttribute("y", 193 - 1.76 * v.level);
  water.setAttribute("height", 1.76 * v.level);
  const aim = document.getElementById("aim");
  for (const end of ["y1", "y2"]) aim.setAttribute(end, 193 - 1.76 * v.setpoint);
  v.running.forEach((on, i) => document.getElementById("p" + (i + 1)).setAttribute("fill", on ? "#3fce4f" : "#ccc"));
}

function connect() {
  const socket = new WebSocket((location.protocol === "https:" ? "wss://" : "ws://") + location.host + "/ws");
  socket.onopen = () => { show("state", "live"); document.getElementById("live").className = "led on"; };
  socket.onmessage = (event) => { if (event.data[0] === "{") values(JSON.parse(event.data)); };
  socket.onclose = () => {
    show("state", "no connection to the controller; trying again");
    document.getElementById("live").className = "led";
    setTimeout(connect, 1000);
  };
}

connect();
const log = new EventSource("/events");
log.onopen = () => show("events", "");
log.onmessage = (event) => {
  const list = document.getElementById("events");
  list.textContent = event.data.split("\n").reverse().join("\n") + "\n" + list.textContent;
};
