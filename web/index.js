// SPDX-License-Identifier: Apache-2.0
// The vms, each with the way to its console.
import { get, say, sayError, watch } from "/web/api.js";

function cell(content) {
  const td = document.createElement("td");
  td.append(content);
  return td;
}

function consoleLink(vm) {
  const a = document.createElement("a");
  a.href = `/web/console.html?vm=${encodeURIComponent(vm.name)}`;
  a.textContent = "console";
  return a;
}

function row(vm, hosts) {
  const tr = document.createElement("tr");
  const memory = vm.effective?.["memory.start"];
  tr.append(cell(vm.name), cell(vm.runtime?.state ?? ""), cell(String(vm.effective?.vcpus ?? "")),
    cell(memory ? `${Math.round(memory / 1048576)} MiB` : ""), cell(hosts.get(vm.runtime?.host) ?? ""),
    cell(consoleLink(vm)));
  return tr;
}

async function show() {
  try {
    const [vms, hosts] = await Promise.all([get("/v1/vms"), get("/v1/hosts")]);
    const names = new Map(hosts.map((h) => [h.id, h.name]));
    vms.sort((a, b) => a.name.localeCompare(b.name));
    document.getElementById("vms").replaceChildren(...vms.map((vm) => row(vm, names)));
    say(`${vms.length} vms`);
  } catch (error) {
    sayError(error);
  }
}

watch(show);
