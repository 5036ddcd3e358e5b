/* SPDX-License-Identifier: Apache-2.0 */
#include "core/plan/plan.h"

static const struct {
	const char *name;
	bool undoes, no_return, lasting, told;
	const char *stage;
} table[_STEP_MAX] = {
#define X(n, u, r, l, t, s)                                                                                  \
	[STEP_##n] = { .name = #n, .undoes = u, .no_return = r, .lasting = l, .told = t, .stage = s },
	STEP_TABLE(X)
#undef X
};

static void step_free(gpointer p)
{
	Step *s = p;

	g_free(s->target);
	json_unref(s->args);
	g_free(s);
}

Plan *plan_new(void)
{
	Plan *p = g_new(Plan, 1);

	p->step = g_ptr_array_new_with_free_func(step_free);
	return p;
}

Plan *plan_free(Plan *p)
{
	if (p != NULL) {
		g_ptr_array_unref(p->step);
		g_free(p);
	}
	return NULL;
}

void plan_add(Plan *p, StepKind kind, const char *target, Json *args)
{
	Step *s = g_new(Step, 1);

	*s = (Step){ .kind = kind, .target = g_strdup(target), .args = args != NULL ? args : json_object() };
	g_ptr_array_add(p->step, s);
}

const Step *plan_step(const Plan *p, guint i)
{
	g_assert(i < p->step->len);
	return p->step->pdata[i];
}

const char *step_name(StepKind kind)
{
	g_assert(kind < _STEP_MAX);
	return table[kind].name;
}

const char *step_stage(StepKind kind)
{
	g_assert(kind < _STEP_MAX);
	return table[kind].stage;
}

bool step_undoes(StepKind kind)
{
	g_assert(kind < _STEP_MAX);
	return table[kind].undoes;
}

bool step_is_point_of_no_return(StepKind kind)
{
	g_assert(kind < _STEP_MAX);
	return table[kind].no_return;
}

bool step_is_lasting(StepKind kind)
{
	g_assert(kind < _STEP_MAX);
	return table[kind].lasting;
}

bool step_is_told(StepKind kind)
{
	g_assert(kind < _STEP_MAX);
	return table[kind].told;
}

bool step_decides(StepKind kind)
{
	return kind == STEP_MIGRATE_SEND || kind == STEP_RECEIVE_GUEST;
}

char *plan_print(const Plan *p)
{
	GString *s = g_string_new(NULL);

	for (guint i = 0; i < p->step->len; i++)
		g_string_append_printf(s, "%s %s\n", step_name(plan_step(p, i)->kind),
				       plan_step(p, i)->target);
	return g_string_free(s, FALSE);
}

Json *plan_to_json(const Plan *p)
{
	Json *a = json_array();

	for (guint i = 0; i < p->step->len; i++) {
		const Step *s = plan_step(p, i);
		Json *j = json_object();

		json_put_str(j, "step", step_name(s->kind));
		json_put_str(j, "target", s->target);
		json_put(j, "args", json_ref(s->args));
		json_array_append_new(a, j);
	}
	return a;
}

static bool kind_of_name(const char *name, StepKind *ret)
{
	for (StepKind k = 0; k < _STEP_MAX; k++)
		if (g_str_equal(table[k].name, name)) {
			*ret = k;
			return true;
		}
	return false;
}

Plan *plan_of_json(const Json *j, GError **err)
{
	g_autoptr(Plan) p = plan_new();
	Json *item;
	size_t i;

	if (!json_is_array(j)) {
		fail(err, ERR_INVALID, "a stored plan is no list of steps");
		return NULL;
	}
	json_array_foreach((Json *)j, i, item)
	{
		const char *name = json_str(item, "step"), *target = json_str(item, "target");
		Json *args = json_obj(item, "args");
		StepKind kind;

		if (name == NULL || target == NULL || args == NULL || !kind_of_name(name, &kind)) {
			fail(err, ERR_INVALID, "step %zu of a stored plan is unknown: '%s'", i,
			     name != NULL ? name : "");
			return NULL;
		}
		plan_add(p, kind, target, json_deep_copy(args));
	}
	return g_steal_pointer(&p);
}
