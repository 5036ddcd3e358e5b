/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Firmware, Secure Boot and the TPM. A setting that the host can't fulfil is
 * refused, and so is what the image requires, for a guest would not boot or
 * would boot without a protection that it counts on.
 */
#include "core/guest/profile-impl.h"

static bool decide_bios_or_uefi(ProfileMaker *m, bool secure, GError **err)
{
	g_autofree char *set = profile_setting_text(m, "firmware"),
			*image = profile_property_text(m, "hw_firmware_type");
	const char *value = set != NULL ? set : image;

	if (secure && g_strcmp0(value, "uefi") != 0)
		profile_decide_as(m->p, PROFILE_FIRMWARE, "uefi", PROFILE_SECURE_BOOT,
				  "Secure Boot needs UEFI.");
	else if (value != NULL)
		profile_decide(m->p, PROFILE_FIRMWARE, g_str_equal(value, "uefi") ? "uefi" : "bios",
			       set != NULL ? CAUSE_VM : CAUSE_IMAGE,
			       set != NULL ? "firmware" : "hw_firmware_type", value, NULL);
	else
		profile_decide(m->p, PROFILE_FIRMWARE, "bios", CAUSE_DEFAULT, "firmware", "bios",
			       "It starts fastest.");
	if (profile_is(m->p, PROFILE_FIRMWARE, "uefi") && !secure && m->host->uefi.code == NULL)
		return fail_advice(
		    err, ERR_UNSUPPORTED,
		    "Install the package ovmf there, or set firmware=bios if the guest can boot so.",
		    "host %s has no UEFI firmware", m->host->name);
	return true;
}

/* NULL when it can be had, else why not. */
static const char *secure_boot_obstacle(const ProfileMaker *m)
{
	g_autofree char *firmware = profile_setting_text(m, "firmware");

	if (g_strcmp0(firmware, "bios") == 0)
		return "the firmware is set to bios";
	if (!profile_is_q35(m->p))
		return "the machine is no q35";
	if (m->host->uefi_secure.code == NULL)
		return "the host has no firmware with Secure Boot";
	return NULL;
}

static bool decide_secure_boot(ProfileMaker *m, GError **err)
{
	g_autofree char *set = profile_setting_text(m, "secure_boot"),
			*image = profile_property_text(m, "os_secure_boot"),
			*type = profile_property_text(m, "hw_firmware_type"),
			*firmware = profile_setting_text(m, "firmware");
	const char *why_not = secure_boot_obstacle(m);
	bool uefi = g_strcmp0(firmware != NULL ? firmware : type, "uefi") == 0;
	bool must = set != NULL ? g_str_equal(set, "on") : g_strcmp0(image, "required") == 0;
	bool may = set == NULL && g_strcmp0(image, "optional") == 0 && uefi && why_not == NULL;

	if (must && why_not != NULL)
		return fail_advice(
		    err, ERR_UNSUPPORTED,
		    "Set secure_boot=off if the guest can boot so, or take away what stands in its way.",
		    "vm '%s' is to have Secure Boot: %s", m->vm->name, why_not);
	if (set != NULL)
		profile_decide(m->p, PROFILE_SECURE_BOOT, set, CAUSE_VM, "secure_boot", set, NULL);
	else if (image != NULL)
		profile_decide(m->p, PROFILE_SECURE_BOOT, must || may ? "on" : "off", CAUSE_IMAGE,
			       "os_secure_boot", image, NULL);
	else
		profile_decide(m->p, PROFILE_SECURE_BOOT, "off", CAUSE_DEFAULT, "secure_boot", "off", NULL);
	return true;
}

static bool check_tpm(const ProfileMaker *m, GError **err)
{
	g_autofree char *version = profile_property_text(m, "hw_tpm_version");

	if (profile_is(m->p, PROFILE_TPM, "none"))
		return true;
	if (g_strcmp0(version, "1.2") == 0)
		profile_could_not(m->p, "hw_tpm_version=1.2",
				  cause_new(CAUSE_IMAGE, "hw_tpm_version", "1.2", NULL),
				  "The TPM is one of version 2.0.");
	if (m->host->swtpm == NULL)
		return fail_advice(
		    err, ERR_UNSUPPORTED,
		    "Install the package swtpm there, or set tpm=false if the guest can do without.",
		    "host %s has no swtpm to make a TPM with", m->host->name);
	return true;
}

static bool decide_tpm(ProfileMaker *m, GError **err)
{
	g_autofree char *set = profile_setting_text(m, "tpm"),
			*model = profile_property_text(m, "hw_tpm_model"),
			*version = profile_property_text(m, "hw_tpm_version");
	const char *value = model != NULL && g_str_equal(model, "tpm-tis") ? "tpm-tis" : "tpm-crb";

	if (set != NULL)
		profile_decide(m->p, PROFILE_TPM, g_str_equal(set, "true") ? value : "none", CAUSE_VM, "tpm",
			       set, NULL);
	else if (model != NULL)
		profile_decide(m->p, PROFILE_TPM, value, CAUSE_IMAGE, "hw_tpm_model", model, NULL);
	else if (version != NULL)
		profile_decide(m->p, PROFILE_TPM, value, CAUSE_IMAGE, "hw_tpm_version", version, NULL);
	else
		profile_decide(m->p, PROFILE_TPM, "none", CAUSE_DEFAULT, "tpm", "false", NULL);
	return check_tpm(m, err);
}

bool profile_decide_firmware(ProfileMaker *m, GError **err)
{
	return decide_secure_boot(m, err) &&
	       decide_bios_or_uefi(m, profile_is(m->p, PROFILE_SECURE_BOOT, "on"), err) && decide_tpm(m, err);
}
